"""Labels of HAM10000, from the files of the Kaggle download."""

from pathlib import Path

from data.labels import Labels, read_one_hot

CLASSES: tuple[str, ...] = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
"""Class names by class id: the columns of ``GroundTruth.csv``."""


def read_labels(raw_dir: Path) -> Labels:
    """Read ``GroundTruth.csv`` and, if it exists, the lesions in ``HAM10000_metadata.csv``.

    Args:
        raw_dir: Folder of the download.

    Raises:
        UserError: If a file cannot be read or contradicts itself.
    """
    return read_one_hot(
        raw_dir / "GroundTruth.csv",
        CLASSES,
        groups_path=raw_dir / "HAM10000_metadata.csv",
        groups_column="image_id",
    )


def image_path(raw_dir: Path, name: str) -> Path:
    """Return the path of an image."""
    return raw_dir / "images" / f"{name}.jpg"
