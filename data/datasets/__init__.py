"""Datasets, one folder each: labels, builder, citation and instructions."""
