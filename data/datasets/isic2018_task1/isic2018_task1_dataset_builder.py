"""Prepares ISIC 2018 task 1 as ArrayRecord."""

from data.builders.masks import MaskFilesBuilder
from data.datasets.isic2018_task1 import labels


class Builder(MaskFilesBuilder):
    """Builder of isic2018_task1: dermoscopy images with a mask of the lesion."""

    files = labels
