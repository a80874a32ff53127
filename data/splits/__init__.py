"""Splits of a dataset into training, validation and test part."""
