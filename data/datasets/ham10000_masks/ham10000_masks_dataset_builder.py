"""Prepares HAM10000 with its masks as ArrayRecord."""

from data.builders.masks import MaskFilesBuilder
from data.datasets.ham10000_masks import labels


class Builder(MaskFilesBuilder):
    """Builder of ham10000_masks: 10,015 dermoscopy images with a mask of the lesion."""

    files = labels
