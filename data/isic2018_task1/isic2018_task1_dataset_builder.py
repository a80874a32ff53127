"""Prepares ISIC 2018 task 1 as ArrayRecord."""

from data.isic2018_task1 import labels
from data.raw_masks import MaskFilesBuilder


class Builder(MaskFilesBuilder):
    """Builder of isic2018_task1: dermoscopy images with a mask of the lesion."""

    files = labels
