"""Prepares a folder of images as ArrayRecord."""

from data.builders.images import ImageFilesBuilder
from data.datasets.folder import labels


class Builder(ImageFilesBuilder):
    """Builder of folder:PATH, a folder per class."""

    files = labels
