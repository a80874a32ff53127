"""Labels of ODIR-5K, from the files of the Kaggle download."""

import re
from pathlib import Path

from data.formats.csv_files import Row, check_values, read_csv
from data.formats.metadata import read_columns
from data.labels import Labels, make_labels
from lmf_jax.errors import UserError

CLASSES: tuple[str, ...] = ("N", "D", "G", "C", "A", "H", "M", "O")
"""Class names by class id: normal, diabetes, glaucoma, cataract, age-related macular degeneration,
hypertension, myopia, other."""

METADATA: tuple[str, ...] = ("Patient Age", "Patient Sex")
"""Columns of ``full_df.csv`` to keep; ``side``, left or right, comes from the file name."""


def read_labels(raw_dir: Path) -> Labels:
    """Read ``full_df.csv``: one line and one label per eye, with the patient as the group.

    The label is in the column ``labels``; the columns N to O have the diagnoses of both eyes.

    Args:
        raw_dir: Folder of the download.

    Raises:
        UserError: If the file cannot be read or contradicts itself.
    """
    path = raw_dir / "full_df.csv"
    rows = read_csv(path, ("ID", "labels", "filename"))
    check_values(path, rows, "ID", may_be_empty=True)
    ids = [row["filename"].removesuffix(".jpg") for row in rows]
    labels = [_label(path, row) for row in rows]
    metadata = {**read_columns(rows, METADATA), "side": list(map(eye_side, ids))}
    return make_labels(path, CLASSES, ids, labels, [row["ID"] for row in rows], metadata=metadata)


def image_path(raw_dir: Path, name: str) -> Path:
    """Return the path of a preprocessed image, or of the original if there is none."""
    preprocessed = raw_dir / "preprocessed_images"
    originals = raw_dir / "ODIR-5K" / "ODIR-5K" / "Training Images"
    folder = preprocessed if preprocessed.is_dir() else originals
    return folder / f"{name}.jpg"


def eye_side(name: str) -> str:
    """Return the eye of an image, or "" if its name does not tell."""
    side = name.rpartition("_")[2]
    return side if side in ("left", "right") else ""


def _label(path: Path, row: Row) -> str:
    match = re.fullmatch(r"\['(\w+)'\]", row["labels"])
    if match is None:
        raise UserError(
            f"Line {row.line} of {path} gives {row['filename']} the labels "
            f"{row['labels']!r}; expected one, such as ['N']."
        )
    return match.group(1)
