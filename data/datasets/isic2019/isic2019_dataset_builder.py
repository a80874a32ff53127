"""Prepares ISIC 2019 as ArrayRecord."""

from data.builders.images import ImageFilesBuilder
from data.datasets.isic2019 import labels


class Builder(ImageFilesBuilder):
    """Builder of isic2019: 25,331 dermoscopy images in eight classes."""

    files = labels
