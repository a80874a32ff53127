"""Labels of HAM10000, from the files of the Kaggle download."""

from pathlib import Path

from data.labels import Labels, read_one_hot

CLASSES: tuple[str, ...] = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
"""Class names by class id: the columns of ``GroundTruth.csv``."""

METADATA: tuple[str, ...] = ("dx_type", "age", "sex", "localization", "dataset")
"""Columns of ``HAM10000_metadata.csv`` to keep; the copy on Kaggle lacks ``dataset``."""


def read_labels(raw_dir: Path) -> Labels:
    """Read ``GroundTruth.csv`` and, if it exists, ``HAM10000_metadata.csv``.

    The latter names the lesion of every image and has the metadata.

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
        metadata_columns=METADATA,
    )


def image_path(raw_dir: Path, name: str) -> Path:
    """Return the path of an image."""
    return raw_dir / "images" / f"{name}.jpg"
