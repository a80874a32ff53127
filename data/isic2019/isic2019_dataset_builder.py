"""Prepares ISIC 2019 as ArrayRecord."""

from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from data.isic2019.labels import CLASSES, read_labels
from data.labels import Labels
from data.raw_images import RawImagesBuilder


class Builder(RawImagesBuilder):
    """Builder of isic2019: 25,331 dermoscopy images in eight classes."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    CLASSES = CLASSES

    def read_labels(self, raw_dir: Path) -> Labels:
        """Returns the labels of the ground truth with the lesions of the metadata."""
        return read_labels(raw_dir)

    def image_path(self, raw_dir: Path, name: str) -> Path:
        """Returns the path below the folder that Kaggle's copy holds twice."""
        folder = raw_dir / "ISIC_2019_Training_Input"
        return folder / "ISIC_2019_Training_Input" / f"{name}.jpg"
