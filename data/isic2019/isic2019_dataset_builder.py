"""Prepares ISIC 2019 as ArrayRecord."""

from data.isic2019 import labels
from data.raw_images import ImageFilesBuilder


class Builder(ImageFilesBuilder):
    """Builder of isic2019: 25,331 dermoscopy images in eight classes."""

    files = labels
