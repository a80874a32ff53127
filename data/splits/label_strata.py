"""Stratified splits and folds of images with several labels, with whole groups in one part.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas, On the Stratification of Multi-Label
Data, ECML PKDD 2011) assigns one label after the other, that with the fewest images left first, to
the part that lacks most of it. Here a patient or lesion is assigned with all its images. Then whole
groups are moved, as in the grouped split of single labels, if a label is missing in a part.
"""

import numpy as np
from jaxtyping import Float64, Int, Int64, Shaped

from data.splits.grouped import FRACTIONS, SERVED_FIRST, GroupTable, cover_table
from data.splits.validation_cut import CUT_FRACTIONS

_STRATA_STREAM = 7  # data/splits/folds.py has the previous one

Labels = Int[np.ndarray, "n labels"]
"""1 for each label that an image has, else 0, or -1 where it is not known, [n, C]."""
Groups = Shaped[np.ndarray, " n"]


def label_split(
    labels: Labels, groups: Groups | None, seed: int
) -> dict[str, Int64[np.ndarray, " _"]]:
    """Split about 70 : 15 : 15 by every label, all rows of a group in the same part.

    A label of at least three groups is in all parts if that is possible for all such labels at
    once; one of two groups is in training and test, one of a single group in training.

    Args:
        labels: 1 for each label that an image has, [n, C]; a missing label of -1 is not balanced.
        groups: Patient or lesion of every row, unicode [n]; None if every image is independent.
        seed: Seed of the split; any whole number from 0.

    Returns:
        The sorted row numbers of "train", "validation" and "test".

    Raises:
        ValueError: If there are fewer groups than parts.
    """
    fractions = np.array([FRACTIONS[part] for part in SERVED_FIRST])
    part_of = stratify_labels(labels, groups, fractions, seed)
    rows = {name: np.flatnonzero(part_of == part) for part, name in enumerate(SERVED_FIRST)}
    return {name: rows[name] for name in FRACTIONS}


def label_folds(
    labels: Labels, groups: Groups | None, seed: int, total: int
) -> Int64[np.ndarray, " n"]:
    """Return the fold of every image, from 0, for folds of about equal shares of every label.

    Args:
        labels: As in :func:`label_split`.
        groups: As in :func:`label_split`.
        seed: Seed of the folds; any whole number from 0.
        total: Number of folds, from 2. A label of as many groups or more is in all folds if that is
            possible for all such labels at once.

    Raises:
        ValueError: If there are fewer groups than folds.
    """
    return stratify_labels(labels, groups, np.full(total, 1 / total), seed)


def label_cut(
    labels: Labels, groups: Groups | None, seed: int
) -> dict[str, Int64[np.ndarray, " _"]]:
    """Split 15 % of the rows off for validation by every label, all rows of a group in one part.

    A label of a single group is in training, and so are all rows if there is a single group.

    Args:
        labels: As in :func:`label_split`.
        groups: As in :func:`label_split`.
        seed: Seed of the split; any whole number from 0.

    Returns:
        The sorted row numbers of "train" and "validation".
    """
    part_of = np.zeros(len(labels), np.int64)
    if len(labels if groups is None else np.unique(groups)) >= len(CUT_FRACTIONS):
        part_of = stratify_labels(labels, groups, np.array([*CUT_FRACTIONS.values()]), seed)
    return {name: np.flatnonzero(part_of == part) for part, name in enumerate(CUT_FRACTIONS)}


def stratify_labels(
    labels: Labels, groups: Groups | None, fractions: Float64[np.ndarray, " parts"], seed: int
) -> Int64[np.ndarray, " n"]:
    """Return the part of every image for parts of given sizes.

    Args:
        labels: As in :func:`label_split`.
        groups: As in :func:`label_split`.
        fractions: Target fraction of the rows in every part, those that get a label of few groups
            first.
        seed: Seed of the order of the groups.

    Raises:
        ValueError: If there are fewer groups than parts.
    """
    names = np.arange(len(labels)) if groups is None else groups
    _, group_of = np.unique(names, return_inverse=True)
    num_groups = int(group_of.max(initial=-1)) + 1
    if num_groups < len(fractions):
        raise ValueError(
            f"There are {num_groups} patients, lesions or images for {len(fractions)} parts; "
            "expected at least one for each."
        )
    counts = np.zeros((num_groups, labels.shape[1] + 1), np.int64)
    np.add.at(counts, group_of, np.column_stack([labels == 1, np.ones(len(labels), bool)]))
    parts = _assign(counts, fractions, seed)
    required = np.arange(len(fractions))[:, None] < (counts > 0).sum(axis=0)
    table = GroupTable(group_of, counts, parts, required)
    if table.unmet(parts).any():
        # A label without an image would divide by 0 in the proportions.
        found = counts.any(axis=0)
        table = GroupTable(group_of, counts[:, found], parts, required[:, found])
        parts = cover_table(table, fractions, seed)
    return parts[group_of]


def _assign(
    counts: Int64[np.ndarray, "groups classes"],
    fractions: Float64[np.ndarray, " parts"],
    seed: int,
) -> Int64[np.ndarray, " groups"]:
    """Assign the groups by iterative stratification; the last column counts all rows."""
    shuffled = np.argsort(
        np.random.PCG64([seed, _STRATA_STREAM]).random_raw(len(counts)), kind="stable"
    )
    parts = np.full(len(counts), -1)
    wanted = fractions[:, None] * counts.sum(axis=0)
    while (parts < 0).any():
        left = parts < 0
        rows_left = counts[left].sum(axis=0)
        # The column of all rows comes last: for the groups without a label.
        labels_left = np.flatnonzero(rows_left[:-1])
        label = labels_left[np.argmin(rows_left[labels_left])] if len(labels_left) else -1
        having = shuffled[left[shuffled] & (counts[shuffled, label] > 0)]
        # Large groups first, while every part has room for them.
        for group in having[np.argsort(-counts[having, label], kind="stable")]:
            # Rounded, so that all machines break ties alike.
            part = np.lexsort(np.round(-wanted[:, [-1, label]].T, 9))[0]
            parts[group] = part
            wanted[part] -= counts[group]
    return parts
