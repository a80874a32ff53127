"""A person's own images, format_values in a CSV file."""
