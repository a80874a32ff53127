"""ISIC 2019, as the download holds it."""
