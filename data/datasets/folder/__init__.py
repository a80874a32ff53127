"""A person's own images, in a folder per class."""
