"""The labels of ISIC 2019, as the download holds them."""

from pathlib import Path

from data.labels import Labels, read_one_hot

CLASSES: tuple[str, ...] = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
"""Class names by class id: the columns of the ground truth, without UNK, which no image has."""


def read_labels(raw_dir: Path) -> Labels:
    """Read the ground truth and, where they lie beside, the lesions of the metadata.

    An image whose lesion is not named is a group of its own.

    Args:
        raw_dir: The folder of the download.

    Raises:
        UserError: If a file cannot be read or contradicts itself.
    """
    return read_one_hot(
        raw_dir / "ISIC_2019_Training_GroundTruth.csv",
        CLASSES,
        unused=("UNK",),
        groups_path=raw_dir / "ISIC_2019_Training_Metadata.csv",
        groups_column="image",
    )


def image_path(raw_dir: Path, name: str) -> Path:
    """Return where the image of this name lies: Kaggle's copy holds its folder twice."""
    return raw_dir / "ISIC_2019_Training_Input" / "ISIC_2019_Training_Input" / f"{name}.jpg"
