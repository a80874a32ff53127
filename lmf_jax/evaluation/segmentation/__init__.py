"""Metrics, summary, report and comparison of segmentation runs."""
