"""Prepares the images of a manifest as ArrayRecord."""

from data.manifest import labels
from data.raw_images import ImageFilesBuilder


class Builder(ImageFilesBuilder):
    """Builder of manifest:FILE.csv, a line per image."""

    files = labels
