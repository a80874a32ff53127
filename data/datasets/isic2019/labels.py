"""Labels of ISIC 2019, from the files of the download."""

from pathlib import Path

from data.labels import Labels, read_one_hot

CLASSES: tuple[str, ...] = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
"""Class names by class id: the columns of the ground truth, without UNK, which no image has."""

METADATA: tuple[str, ...] = ("age_approx", "sex", "gender", "anatom_site_general")
"""Columns of the metadata to keep; some copies have ``gender`` instead of ``sex``."""


def read_labels(raw_dir: Path) -> Labels:
    """Read the ground truth and, if the file exists, the lesions and columns of the metadata.

    An image of an unknown lesion is a separate group.

    Args:
        raw_dir: Folder of the download.

    Raises:
        UserError: If a file cannot be read or contradicts itself.
    """
    return read_one_hot(
        raw_dir / "ISIC_2019_Training_GroundTruth.csv",
        CLASSES,
        unused=("UNK",),
        groups_path=raw_dir / "ISIC_2019_Training_Metadata.csv",
        groups_column="image",
        metadata_columns=METADATA,
    )


def image_path(raw_dir: Path, name: str) -> Path:
    """Return the path of an image; the copy on Kaggle nests the folder in itself."""
    return raw_dir / "ISIC_2019_Training_Input" / "ISIC_2019_Training_Input" / f"{name}.jpg"
