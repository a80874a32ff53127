"""Prepares ODIR-5K as ArrayRecord."""

from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from data.labels import Labels
from data.odir5k.labels import CLASSES, read_labels
from data.raw_images import RawImagesBuilder


class Builder(RawImagesBuilder):
    """Builder of odir5k: 6,392 photographs of eyes in eight classes."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    CLASSES = CLASSES

    def read_labels(self, raw_dir: Path) -> Labels:
        """Returns the label of every eye, with the patient as the group."""
        return read_labels(raw_dir)

    def image_path(self, raw_dir: Path, name: str) -> Path:
        """Returns the path of the preprocessed image, or of the original where there is none."""
        preprocessed = raw_dir / "preprocessed_images"
        originals = raw_dir / "ODIR-5K" / "ODIR-5K" / "Training Images"
        folder = preprocessed if preprocessed.is_dir() else originals
        return folder / f"{name}.jpg"
