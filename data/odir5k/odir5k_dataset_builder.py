"""Prepares ODIR-5K as ArrayRecord."""

from data.odir5k import labels
from data.raw_images import RawImagesBuilder


class Builder(RawImagesBuilder):
    """Builder of odir5k: 6,392 photographs of eyes in eight classes."""

    download = labels
