"""A person's own images and masks, in two folders."""
