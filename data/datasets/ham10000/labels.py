"""The labels of HAM10000, as the Kaggle download holds them."""

from pathlib import Path

from data.labels import Labels, read_one_hot

CLASSES: tuple[str, ...] = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
"""Class names by class id: the columns of ``GroundTruth.csv``."""


def read_labels(raw_dir: Path) -> Labels:
    """Read ``GroundTruth.csv`` and, if ``HAM10000_metadata.csv`` lies beside, the lesions.

    Args:
        raw_dir: The folder of the download.

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
    """Return where the image of this name lies in the download."""
    return raw_dir / "images" / f"{name}.jpg"
