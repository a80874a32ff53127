"""Labels of a manifest whose images may have several: a CSV file with one line per image."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from data.builders.label_columns import make_label_vectors, vectors_of_columns, vectors_of_names
from data.datasets.manifest import labels as manifest
from data.formats.csv_files import Row, check_values, read_csv
from data.formats.metadata import read_columns
from data.labels import Labels
from data.volume_spec import is_volume
from lmf_jax.errors import UserError

PREFIX = "label:"
"""Start of the name of a column with 1, 0 or nothing for every image; the label is the rest."""

image_path = manifest.image_path


def read_labels(raw: Path) -> Labels:
    """Read the columns ``path``, those of the labels, and ``group``, ``split`` and metadata.

    The labels are either in the column ``label``, with ``|`` between the names, in alphabetical
    order; or in a column ``label:NAME`` for each label, in the order of the file, with 1, 0 or
    nothing for a missing label.

    Args:
        raw: The CSV file.

    Raises:
        UserError: If the file cannot be read or contradicts itself, has no column of labels or
            both kinds, a value is none that a label has, or there are fewer than two labels.
    """
    rows = read_csv(raw, ("path",))
    columns: Mapping[str, str] = rows[0] if rows else {}
    of_labels = [column for column in columns if column.startswith(PREFIX)]
    ids = [manifest.image_name(raw, row["path"].strip()) for row in rows]
    if any(map(is_volume, ids)):
        raise UserError(
            f"{raw} lists volumes (NIfTI files), which have one class each; expected images, or "
            "--task classification with a column label."
        )
    label_names, vectors = _read_vectors(raw, rows, of_labels, ids)
    if "group" in columns:
        check_values(raw, rows, "group", may_be_empty=True)
    unused = [column for column in columns if column not in (*manifest.COLUMNS, *of_labels)]
    return make_label_vectors(
        raw,
        label_names,
        ids,
        vectors,
        groups=[row["group"].strip() for row in rows] if "group" in columns else None,
        parts=[manifest.part_of(raw, row) for row in rows] if "split" in columns else None,
        metadata=read_columns(rows, unused),
    )


def raw_files(raw: Path) -> Iterator[Path]:
    """Yield every file of the dataset."""
    yield raw
    for name in read_labels(raw).ids.tolist():
        yield image_path(raw, name)


def _read_vectors(
    raw: Path, rows: Sequence[Row], of_labels: Sequence[str], ids: Sequence[str]
) -> tuple[Sequence[str], Int32[np.ndarray, "n labels"]]:
    has_names = bool(rows) and "label" in rows[0]
    if has_names and of_labels:
        raise UserError(
            f"{raw} has the column label and the column {of_labels[0]}; expected the labels in one "
            "of these ways."
        )
    if has_names:
        return vectors_of_names(raw, rows, "label")
    if rows and not of_labels:
        raise UserError(
            f"{raw} has no labels in its columns {', '.join(rows[0])}; expected a column label "
            f"with names such as A|B, or a column {PREFIX}NAME with 1, 0 or nothing for each label."
        )
    label_names = [column.removeprefix(PREFIX).strip() for column in of_labels]
    return label_names, vectors_of_columns(raw, rows, of_labels, ids)
