"""Prepares ODIR-5K as ArrayRecord."""

from data.odir5k import labels
from data.raw_images import ImageFilesBuilder


class Builder(ImageFilesBuilder):
    """Builder of odir5k: 6,392 photographs of eyes in eight classes."""

    files = labels
