"""Prepares HAM10000 as ArrayRecord."""

from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from data.ham10000.labels import CLASSES, read_labels
from data.labels import Labels
from data.raw_images import RawImagesBuilder


class Builder(RawImagesBuilder):
    """Builder of ham10000: 10,015 dermoscopy images in seven classes."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    CLASSES = CLASSES

    def read_labels(self, raw_dir: Path) -> Labels:
        """Returns the labels of ``GroundTruth.csv`` with the lesions of the metadata."""
        return read_labels(raw_dir)

    def image_path(self, raw_dir: Path, name: str) -> Path:
        """Returns the path of ``images/<name>.jpg``."""
        return raw_dir / "images" / f"{name}.jpg"
