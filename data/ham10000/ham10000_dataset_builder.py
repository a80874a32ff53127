"""Prepares HAM10000 as ArrayRecord."""

from data.ham10000 import labels
from data.raw_images import ImageFilesBuilder


class Builder(ImageFilesBuilder):
    """Builder of ham10000: 10,015 dermoscopy images in seven classes."""

    files = labels
