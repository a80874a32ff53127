"""Prepares the images of a manifest as ArrayRecord."""

from data.builders.images import ImageFilesBuilder
from data.datasets.manifest import labels


class Builder(ImageFilesBuilder):
    """Builder of manifest:FILE.csv, a line per image."""

    files = labels
