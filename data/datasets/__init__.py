"""Datasets, one folder each: specification, labels, builder, citation and instructions."""
