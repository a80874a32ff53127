"""Prepares ODIR-5K as ArrayRecord."""

from data.builders.images import ImageFilesBuilder
from data.datasets.odir5k import labels


class Builder(ImageFilesBuilder):
    """Builder of odir5k: 6,392 photographs of eyes in eight classes."""

    files = labels
