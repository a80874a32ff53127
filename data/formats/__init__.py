"""Decoding of image, mask, volume and table files; no dataset is known here."""
