"""ISIC 2018 task 1, as the download holds it."""
