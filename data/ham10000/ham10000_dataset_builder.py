"""Prepares HAM10000 as ArrayRecord."""

from data.ham10000 import labels
from data.raw_images import RawImagesBuilder


class Builder(RawImagesBuilder):
    """Builder of ham10000: 10,015 dermoscopy images in seven classes."""

    download = labels
