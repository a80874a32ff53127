"""A person's own images, listed in a CSV file."""
