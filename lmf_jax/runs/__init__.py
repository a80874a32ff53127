"""Run folders: config.json, metrics and test results, checksums."""
