"""Fuzzing of every reader of untrusted files."""
