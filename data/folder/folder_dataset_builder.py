"""Prepares a folder of images as ArrayRecord."""

from data.folder import labels
from data.raw_images import ImageFilesBuilder


class Builder(ImageFilesBuilder):
    """Builder of folder:PATH, a folder per class."""

    files = labels
