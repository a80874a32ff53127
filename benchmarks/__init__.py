"""Benchmarks of the training stack; see README.md beside."""
