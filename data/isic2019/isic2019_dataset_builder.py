"""Prepares ISIC 2019 as ArrayRecord."""

from data.isic2019 import labels
from data.raw_images import RawImagesBuilder


class Builder(RawImagesBuilder):
    """Builder of isic2019: 25,331 dermoscopy images in eight classes."""

    download = labels
