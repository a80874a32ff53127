"""Images and masks of HAM10000, from the files of the Kaggle download."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from data.datasets.ham10000 import labels as ham10000
from data.labels import WHOLE_IMAGE, Labels

MASK_CLASSES: tuple[str, ...] = ("background", "lesion")
"""Name of every class of pixels."""

image_path = ham10000.image_path


def read_labels(raw_dir: Path) -> Labels:
    """Read the images and their lesions as in :mod:`data.datasets.ham10000`.

    Args:
        raw_dir: Folder of the download.

    Raises:
        UserError: If a file cannot be read or contradicts itself.
    """
    labels = ham10000.read_labels(raw_dir)
    return replace(labels, class_names=WHOLE_IMAGE, labels=np.zeros_like(labels.labels))


def mask_path(raw_dir: Path, name: str) -> Path:
    """Return the path of the mask of an image."""
    return raw_dir / "masks" / f"{name}_segmentation.png"
