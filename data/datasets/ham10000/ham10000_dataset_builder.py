"""Prepares HAM10000 as ArrayRecord."""

from data.builders.images import ImageFilesBuilder
from data.datasets.ham10000 import labels


class Builder(ImageFilesBuilder):
    """Builder of ham10000: 10,015 dermoscopy images in seven classes."""

    files = labels
