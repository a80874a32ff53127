"""HAM10000, as the download holds it."""
