"""Batches of images, patches and tiles, ordered and cut by global position."""
