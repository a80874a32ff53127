"""Pairs of images as examples: the two images of a patient or lesion that a column tells apart."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int32, Int64, Shaped

from data.labels import MISSING_LABEL
from data.prepared.images import Prepared
from lmf_jax.errors import UserError

SIDES = 2
ABSENT = -1
"""Row of an image that a pair lacks."""

PairRows = Int64[np.ndarray, "n 2"]
"""Row of the first and the second image of each pair, or :data:`ABSENT`."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """The images of each example.

    Attributes:
        rows: Rows of the first and the second image, or :data:`ABSENT`, [n, 2].
        sides: The values that tell the images apart, such as left and right.
    """

    rows: PairRows
    sides: tuple[str, str]


def pair_images(prepared: Prepared, column: str, name: str) -> tuple[Prepared, Pairs]:
    """Return a dataset whose examples are the patients or lesions, with up to two images each.

    The examples have the order of their first images. A label that one of the images has is a label
    of the pair. Metadata in which the images of a pair differ are left out.

    Args:
        prepared: A dataset of images with label vectors.
        column: Column of the metadata that has one of two values for every image, such as the eye.
        name: Name of the dataset, for messages.

    Returns:
        The pairs, whose ``source`` is still that of the images, and their images.

    Raises:
        UserError: If the dataset names no patients or lesions, the column is missing or has not
            two values, a patient has two images of one value, or its images are in two official
            parts.
    """
    assert prepared.label_vectors is not None
    sides, values = _sides(prepared, column, name)
    if prepared.groups is None:
        raise UserError(
            f"{name} names no patients or lesions, so --pair-by {column} has no pairs; give a "
            "column group."
        )
    _, first, pair_of = np.unique(prepared.groups, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))  # pairs in the order of their first images
    pair_of = rank[pair_of]
    rows = np.full((len(first), SIDES), ABSENT, np.int64)
    for row, (pair, side) in enumerate(zip(pair_of.tolist(), sides.tolist(), strict=True)):
        if rows[pair, side] != ABSENT:
            raise UserError(
                f"{prepared.groups[row]} of {name} has several images with {column} "
                f"{values[side]}; --pair-by needs at most one."
            )
        rows[pair, side] = row
    firsts = np.sort(first)
    names = prepared.groups[firsts]
    pairs = replace(
        prepared,
        ids=names,
        groups=names,
        labels=prepared.labels[firsts],
        label_vectors=_join_labels(prepared.label_vectors, rows),
        parts=None if prepared.parts is None else _common_parts(prepared.parts, rows, names),
        metadata=_common_metadata(prepared, rows),
        fingerprint=_fingerprint(prepared.fingerprint, column, rows),
        folder=prepared.folder / f"pairs-{_key(column)}",  # of the split files
    )
    return pairs, Pairs(rows, (values[0], values[1]))


def _sides(
    prepared: Prepared, column: str, name: str
) -> tuple[Int64[np.ndarray, " n"], Sequence[str]]:
    """Return the number, 0 or 1, of the value of every image, and the two values."""
    if column not in prepared.metadata:
        known = ", ".join(prepared.metadata) or "none"
        raise UserError(
            f"--pair-by {column}: {name} has no such column of metadata; it has {known}."
        )
    values, sides = np.unique(prepared.metadata[column], return_inverse=True)
    if len(values) != SIDES or "" in values:
        found = ", ".join(repr(value) for value in values.tolist()[:4])
        raise UserError(
            f"--pair-by {column}: the column has the values {found}; expected two values, one of "
            "them for every image."
        )
    return sides.astype(np.int64), values.tolist()


def _join_labels(
    labels: Int32[np.ndarray, "images labels"], rows: PairRows
) -> Int32[np.ndarray, "n labels"]:
    """Return 1 for a label of either image, else -1 if one of them misses it, else 0."""
    present = rows != ABSENT
    of_images = labels[np.where(present, rows, 0)]  # [n, 2, labels]
    has = ((of_images == 1) & present[..., None]).any(axis=1)
    misses = ((of_images == MISSING_LABEL) & present[..., None]).any(axis=1)
    return np.where(has, 1, np.where(misses, MISSING_LABEL, 0)).astype(np.int32)


def _common_parts(
    parts: Shaped[np.ndarray, " images"],
    rows: PairRows,
    names: Shaped[np.ndarray, " n"],
) -> Shaped[np.ndarray, " n"]:
    first, second = _both(parts, rows)
    divided = np.flatnonzero(first != second)
    if len(divided):
        raise UserError(
            f"The images of {names[divided[0]]} are in two parts of the official split; leave "
            "--pair-by out."
        )
    return first


def _common_metadata(prepared: Prepared, rows: PairRows) -> dict[str, Shaped[np.ndarray, " n"]]:
    """Return the columns whose values are equal in both images of every pair."""
    pairs = {column: _both(values, rows) for column, values in prepared.metadata.items()}
    return {column: first for column, (first, second) in pairs.items() if (first == second).all()}


def _both(
    values: Shaped[np.ndarray, " images"], rows: PairRows
) -> tuple[Shaped[np.ndarray, " n"], Shaped[np.ndarray, " n"]]:
    """Return the values of the first and of the second images; absent ones have the other's."""
    present = np.where(rows == ABSENT, rows[:, ::-1], rows)
    return values[present[:, 0]], values[present[:, 1]]


def _fingerprint(fingerprint: str, column: str, rows: PairRows) -> str:
    """Return the fingerprint of the pairs, which no dataset of single images has."""
    content = f"pairs by {column} of {fingerprint}".encode() + rows.astype("<i8").tobytes()
    return hashlib.sha256(content).hexdigest()


def _key(column: str) -> str:
    """Return a short text for file names that is unique to a column."""
    return hashlib.sha256(column.encode()).hexdigest()[:12]
