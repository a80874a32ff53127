"""Label vectors: the labels of images that may have several, from the fields of a label file.

A label of an image is 1 if the image has it, else 0, or -1 if it is missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from data.formats.csv_files import Row, is_missing, without_decimals
from data.labels import (
    MISSING_LABEL,
    WHOLE_IMAGE,
    Labels,
    check_class_names,
    check_spellings,
    make_labels,
)
from lmf_jax.errors import UserError

SEPARATOR = "|"
"""Text between the labels in a field."""


def make_label_vectors(
    path: Path,
    label_names: Sequence[str],
    ids: Sequence[str],
    vectors: Int32[np.ndarray, "n labels"],
    groups: Sequence[str] | None = None,
    parts: Sequence[str] | None = None,
    metadata: Mapping[str, Sequence[str]] | None = None,
) -> Labels:
    """Check the labels of images that may have several, and assemble them.

    Args:
        path: Label file, for the errors.
        label_names: Name of every label.
        ids: Name of every image.
        vectors: Labels of every image, [n, labels].
        groups: See :func:`data.labels.make_labels`, as for the next two.
        parts: "train", "validation" or "test" for every image.
        metadata: Value of every image by column.

    Raises:
        UserError: If there are fewer than two labels, an image has none of which anything is
            known, or an argument is as :func:`data.labels.make_labels` refuses it.
    """
    classes = WHOLE_IMAGE * len(ids)
    labels = make_labels(path, WHOLE_IMAGE, ids, classes, groups, parts, metadata)
    if len(label_names) < 2:
        raise UserError(
            f"{path} names one label, {', '.join(label_names)}; expected at least two, or use "
            "--task classification with a class for images with and without it."
        )
    check_class_names(path, label_names)
    check_spellings(path, label_names)
    for name in label_names:
        if SEPARATOR in name:
            raise UserError(
                f"{path} names the label {name!r}; expected a name without {SEPARATOR}, which "
                "separates labels."
            )
    unlabeled = np.flatnonzero((vectors == MISSING_LABEL).all(axis=1))
    if len(unlabeled):
        more = f" and of {len(unlabeled) - 1} more images" if len(unlabeled) > 1 else ""
        raise UserError(
            f"{path} leaves all labels of {ids[unlabeled[0]]}{more} empty; give 0 for labels that "
            "an image does not have, or remove its line."
        )
    return replace(labels, label_names=tuple(label_names), label_vectors=vectors)


def vectors_of_columns(
    path: Path, rows: Sequence[Row], columns: Sequence[str], names: Sequence[str]
) -> Int32[np.ndarray, "n labels"]:
    """Return label vectors from columns of 0 and 1; an empty field is a missing label.

    Args:
        path: The file, for the errors.
        rows: Its rows.
        columns: The column of every label.
        names: Name of the image of every row, for the errors.

    Raises:
        UserError: If a field is neither 0 nor 1 nor empty.
    """
    values = {"0": 0, "1": 1}
    vectors = np.full((len(rows), len(columns)), MISSING_LABEL, np.int32)
    for row, vector, name in zip(rows, vectors, names, strict=True):
        for number, column in enumerate(columns):
            text = row[column].strip()
            if is_missing(text):
                continue
            value = values.get(without_decimals(text))
            if value is None:
                raise UserError(
                    f"Line {row.line} of {path} gives {name} the value {text!r} in the column "
                    f"{column}; expected 1, 0, or nothing for a missing label."
                )
            vector[number] = value
    return vectors


def vectors_of_names(
    path: Path, rows: Sequence[Row], column: str
) -> tuple[list[str], Int32[np.ndarray, "n labels"]]:
    """Return the label names, in alphabetical order, and label vectors from a column of names.

    Args:
        path: The file, for the errors.
        rows: Its rows.
        column: The column with the names of the labels of an image, with ``|`` between them. An
            image with an empty field has no label.

    Raises:
        UserError: If a field has an empty name or one twice.
    """
    of_rows = [[name.strip() for name in row[column].split(SEPARATOR)] for row in rows]
    of_rows = [[] if names == [""] else names for names in of_rows]
    for row, names in zip(rows, of_rows, strict=True):
        if "" in names or len(set(names)) < len(names):
            raise UserError(
                f"Line {row.line} of {path} has the labels {row[column]!r}; expected each once, "
                f"with {SEPARATOR} between them."
            )
    label_names = sorted({name for names in of_rows for name in names})
    numbers = {name: number for number, name in enumerate(label_names)}
    vectors = np.zeros((len(rows), len(label_names)), np.int32)
    for vector, names in zip(vectors, of_rows, strict=True):
        vector[[numbers[name] for name in names]] = 1
    return label_names, vectors
