"""Audits of a dataset: split leakage, near-duplicates, conflicting labels, class distribution."""
