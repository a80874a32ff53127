"""ODIR-5K, as the download holds it."""
