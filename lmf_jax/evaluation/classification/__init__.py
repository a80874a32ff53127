"""Metrics, summary, report and comparison of classification runs."""
