"""Metrics of test predictions, figures, and the report of a finished run."""
