"""The labels of HAM10000, as the Kaggle download holds them."""

from pathlib import Path

from data.labels import Labels, make_labels, one_hot, read_csv

CLASSES: tuple[str, ...] = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
"""Class names by class id: the columns of ``GroundTruth.csv``."""

PAPER_COUNTS = {"train": 7011, "validation": 1502, "test": 1502}
"""Images per part, from Table 1 of Sadi et al."""


def read_labels(raw_dir: Path) -> Labels:
    """Reads ``GroundTruth.csv`` and, if ``HAM10000_metadata.csv`` lies beside, the lesions.

    Args:
        raw_dir: The folder of the download.

    Raises:
        UserError: If a file cannot be read or contradicts itself.
    """
    path, metadata = raw_dir / "GroundTruth.csv", raw_dir / "HAM10000_metadata.csv"
    rows = read_csv(path, ("image", *CLASSES))
    ids = [row["image"] for row in rows]
    groups = None
    if metadata.exists():
        lesions = {
            row["image_id"]: row["lesion_id"]
            for row in read_csv(metadata, ("lesion_id", "image_id"))
        }
        groups = [lesions.get(name, "") for name in ids]
    labels = [one_hot(path, row, row["image"], CLASSES) for row in rows]
    return make_labels(path, CLASSES, ids, labels, groups)


def image_path(raw_dir: Path, name: str) -> Path:
    """Returns where the image of this name lies in the download."""
    return raw_dir / "images" / f"{name}.jpg"
