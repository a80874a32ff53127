"""Builders that turn raw files into prepared datasets."""
