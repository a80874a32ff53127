"""Identical images with different labels, in any part."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from data.labels import Labels
from data.sources import ImageSource

MOST_LINES = 20
"""Maximum number of lines; ``audit.json`` lists all conflicts."""


@dataclass(frozen=True)
class LabelConflict:
    """Images that are identical byte for byte and have several labels.

    Attributes:
        images: Name of each image.
        labels: Class of each.
    """

    images: tuple[str, ...]
    labels: tuple[str, ...]


def image_digests(source: ImageSource) -> Shaped[np.ndarray, " n"]:
    """Return the SHA-256, in hex, of the encoded bytes of every image.

    Args:
        source: Encoded images.
    """
    with ThreadPoolExecutor() as pool:
        digests = pool.map(lambda row: hashlib.sha256(source[row]).hexdigest(), range(len(source)))
        return np.array(list(digests), "U64")


def label_conflicts(labels: Labels, digests: Shaped[np.ndarray, " n"]) -> list[LabelConflict]:
    """Find every picture with several labels, in the order of the images.

    Args:
        labels: Labels of the dataset.
        digests: Digest of every image, equal for identical images.
    """
    rows_of: dict[str, list[int]] = {}
    for row, digest in enumerate(digests.tolist()):
        rows_of.setdefault(digest, []).append(row)
    return [
        LabelConflict(
            images=tuple(str(labels.ids[row]) for row in rows),
            labels=tuple(labels.class_names[labels.labels[row]] for row in rows),
        )
        for rows in rows_of.values()
        if len(set(labels.labels[rows].tolist())) > 1
    ]


def conflict_lines(conflicts: list[LabelConflict]) -> list[str]:
    """Return a line for each of the first conflicts, and one for all others.

    Args:
        conflicts: Result of :func:`label_conflicts`.
    """
    lines = []
    for conflict in conflicts[:MOST_LINES]:
        pairs = zip(conflict.images, conflict.labels, strict=True)
        named = ", ".join(f"{image} ({label})" for image, label in pairs)
        lines.append(f"One picture, byte for byte, has several labels: {named}.")
    if len(conflicts) > MOST_LINES:
        lines.append(
            f"{len(conflicts) - MOST_LINES} more pictures have several labels; audit.json of "
            "python -m data audit lists them."
        )
    return lines
