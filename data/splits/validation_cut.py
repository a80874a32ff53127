"""Validation part of datasets that come only with training and test parts."""

import numpy as np
from jaxtyping import Int64

from data.labels import Labels
from data.splits.grouped import assign_groups, can_be_grouped, cover_classes

CUT_FRACTIONS = {"train": 0.85, "validation": 0.15}
"""Target fraction of the rows of a training part that is cut."""
_CUT_STREAM = 5  # data/splits/grouped.py has the previous one


def lacks_validation(labels: Labels) -> bool:
    """Return whether a dataset comes with a split that has no validation part.

    Args:
        labels: Labels of the dataset.
    """
    return labels.parts is not None and "validation" not in labels.parts


def cut_validation(labels: Labels, seed: int) -> dict[str, Int64[np.ndarray, " _"]]:
    """Split 15 % of the training part off for validation, stratified by class.

    If patients or lesions are known, all images of one stay together, and every class of at least
    two of them is in both parts. Else random images are taken, 15 % of each class, rounded; a class
    of fewer than four images stays in training.

    Args:
        labels: Labels of a dataset that comes with a training part.
        seed: Seed of the split; any whole number from 0.

    Returns:
        The sorted row numbers of "train" and "validation".
    """
    rows = np.flatnonzero(labels.parts == "train")
    cut = _cut_images if labels.groups is None else _cut_groups
    return {part: rows[places] for part, places in cut(labels, rows, seed).items()}


def _cut_images(
    labels: Labels, rows: Int64[np.ndarray, " n"], seed: int
) -> dict[str, Int64[np.ndarray, " _"]]:
    """Return the positions of both parts among the training rows."""
    validates = np.zeros(len(rows), bool)
    of_rows = labels.labels[rows]
    for label in np.unique(of_rows).tolist():
        places = np.flatnonzero(of_rows == label)
        keys = np.random.PCG64([seed, _CUT_STREAM, label]).random_raw(len(places))
        count = (15 * len(places) + 50) // 100
        validates[places[np.argsort(keys, kind="stable")[:count]]] = True
    return {"train": np.flatnonzero(~validates), "validation": np.flatnonzero(validates)}


def _cut_groups(
    labels: Labels, rows: Int64[np.ndarray, " n"], seed: int
) -> dict[str, Int64[np.ndarray, " _"]]:
    """Return the positions of both parts among the training rows, with no group in both."""
    assert labels.groups is not None
    of_rows, groups = labels.labels[rows], labels.groups[rows]
    assigned = {"train": np.arange(len(rows)), "validation": np.zeros(0, np.int64)}
    if can_be_grouped(of_rows, groups):
        held_out, *others = assign_groups(of_rows, groups, seed)
        assigned = {"train": np.sort(np.concatenate(others)), "validation": held_out}
    return cover_classes(of_rows, groups, assigned, CUT_FRACTIONS, seed)
