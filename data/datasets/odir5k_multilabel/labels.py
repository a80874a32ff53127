"""Diagnoses of the patients of ODIR-5K, from the files of the Kaggle download."""

from pathlib import Path

from data.builders.label_columns import make_label_vectors, vectors_of_columns
from data.datasets.odir5k import labels as odir5k
from data.datasets.odir5k.labels import CLASSES, METADATA
from data.formats.csv_files import check_values, read_csv
from data.formats.metadata import read_columns
from data.labels import Labels

image_path = odir5k.image_path


def read_labels(raw_dir: Path) -> Labels:
    """Read ``full_df.csv``: one line per eye, with the diagnoses of the patient in N to O.

    Both eyes of a patient have the labels of both together, as in the challenge of the dataset. The
    patient is the group.

    Args:
        raw_dir: Folder of the download.

    Raises:
        UserError: If the file cannot be read or contradicts itself.
    """
    path = raw_dir / "full_df.csv"
    rows = read_csv(path, ("ID", "filename", *CLASSES))
    check_values(path, rows, "ID", may_be_empty=True)
    ids = [row["filename"].removesuffix(".jpg") for row in rows]
    vectors = vectors_of_columns(path, rows, CLASSES, ids)
    metadata = {**read_columns(rows, METADATA), "side": list(map(odir5k.eye_side, ids))}
    groups = [row["ID"] for row in rows]
    return make_label_vectors(path, CLASSES, ids, vectors, groups, metadata=metadata)
