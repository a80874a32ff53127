"""A validation part for a dataset that comes with training and test alone."""

import numpy as np
from jaxtyping import Int64

from data.labels import Labels
from data.splits.grouped import can_be_grouped, cover_classes, deal_groups

_SHARES = {"train": 0.85, "validation": 0.15}
_CUT_STREAM = 5  # data/splits/grouped.py has the one before


def lacks_validation(labels: Labels) -> bool:
    """Return whether a dataset comes with a split that has no validation part.

    Args:
        labels: The labels of the dataset.
    """
    return labels.parts is not None and "validation" not in labels.parts


def cut_validation(labels: Labels, seed: int) -> dict[str, Int64[np.ndarray, " _"]]:
    """Cut 15 % of the training part off for validation, by class.

    Where patients or lesions are known, all images of one stay together, and every class of two or
    more of them is in both parts. Else it is one image in seven of each class, rounded, by chance;
    a class of fewer than four only trains.

    Args:
        labels: The labels of a dataset that comes with a training part.
        seed: Decides the cut alone; any whole number from 0.

    Returns:
        The sorted row numbers of "train" and "validation".
    """
    rows = np.flatnonzero(labels.parts == "train")
    cut = _cut_images if labels.groups is None else _cut_groups
    return {part: rows[places] for part, places in cut(labels, rows, seed).items()}


def _cut_images(
    labels: Labels, rows: Int64[np.ndarray, " n"], seed: int
) -> dict[str, Int64[np.ndarray, " _"]]:
    """Return the places, among the training rows, of both parts."""
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
    """Return the places, among the training rows, of both parts; no group is in two."""
    assert labels.groups is not None
    of_rows, groups = labels.labels[rows], labels.groups[rows]
    dealt = {"train": np.arange(len(rows)), "validation": np.zeros(0, np.int64)}
    if can_be_grouped(of_rows, groups):
        held_out, *others = deal_groups(of_rows, groups, seed)
        dealt = {"train": np.sort(np.concatenate(others)), "validation": held_out}
    return cover_classes(of_rows, groups, dealt, _SHARES, seed)
