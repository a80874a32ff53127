"""Splits that keep all rows of a patient or lesion in one part.

Version 1 assigns the groups to stratified folds. With few groups a part may lack a class. Version 2
is the same if every part has the classes that it needs; otherwise it moves whole groups.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int, Int64, Shaped

GROUPED_VERSIONS = (2, 1)
"""Versions of the grouped split, the present one first; a run records its version."""

SERVED_FIRST = ("train", "test", "validation")
"""Order of the parts that get a class of fewer than three groups: it cannot be learned without
training images, or measured without test images."""

FRACTIONS = {"train": 0.7, "validation": 0.15, "test": 0.15}
"""Target fraction of the rows in every part."""

_FOLDS = ((20, 3), (7, 1))
"""Number of folds, and of folds for validation and test each: 15 % if there are enough groups, else
a seventh."""

_ORDER_STREAM = 4  # data/splits/methods.py and data/batches/patches.py have the others
_MOST_STEPS = 10_000
"""Maximum number of steps of the backtracking search."""
_MOST_MOVES = 1_000
_MOST_SWAPPED = 200
"""Maximum number of groups for trying exchanges of two, whose number grows quadratically."""


def can_be_grouped(labels: Int[np.ndarray, " n"], groups: Shaped[np.ndarray, " n"]) -> bool:
    """Return whether there are enough groups and rows of a class for a grouped split.

    Args:
        labels: Class of every row, [n].
        groups: Patient or lesion of every row, unicode [n].
    """
    return _folds(labels, groups) is not None


def grouped_split(
    labels: Int[np.ndarray, " n"],
    groups: Shaped[np.ndarray, " n"],
    seed: int,
    version: int = GROUPED_VERSIONS[0],
) -> dict[str, Int64[np.ndarray, " _"]]:
    """Split about 70 : 15 : 15 by class, all rows of a group in the same part.

    scikit-learn assigns the groups to twenty stratified folds: three for validation, three for
    test, the others for training. With fewer than twenty groups it is one fold of seven each. If
    that leaves a class of at least three groups out of a part, version 2 moves groups until every
    such class is in all parts, and then moves and exchanges groups to improve the proportions. A
    class of two groups is in training and test, a class of one group in training.

    Args:
        labels: Class of every row, [n].
        groups: Patient or lesion of every row, unicode [n].
        seed: Seed of the split; any whole number from 0.
        version: One of :data:`GROUPED_VERSIONS`.

    Returns:
        The sorted row numbers of "train", "validation" and "test".

    Raises:
        ValueError: If there are fewer than seven groups, or no class has seven rows.
    """
    validation, test, *train = assign_groups(labels, groups, seed)
    rows = {"train": np.sort(np.concatenate(train)), "validation": validation, "test": test}
    return rows if version == 1 else cover_classes(labels, groups, rows, FRACTIONS, seed)


def assign_groups(
    labels: Int[np.ndarray, " n"], groups: Shaped[np.ndarray, " n"], seed: int
) -> list[Int64[np.ndarray, " _"]]:
    """Assign groups to stratified parts, each with about 15 % of the rows.

    Args:
        labels: Class of every row, [n].
        groups: Patient or lesion of every row, unicode [n].
        seed: Seed of the assignment.

    Returns:
        The sorted row numbers of the first part, of the second, and of the remaining folds.

    Raises:
        ValueError: If there are fewer than seven groups, or no class has seven rows.
    """
    chosen = _folds(labels, groups)
    if chosen is None:
        raise ValueError("A grouped split needs seven groups, and seven rows of a class.")
    num_folds, held_out = chosen
    folds = assign_to_folds(labels, groups, seed, num_folds)
    joined = (folds[:held_out], folds[held_out : 2 * held_out])
    return [*(np.sort(np.concatenate(part)) for part in joined), *folds[2 * held_out :]]


def assign_to_folds(
    labels: Int[np.ndarray, " n"], groups: Shaped[np.ndarray, " n"], seed: int, num_folds: int
) -> list[Int64[np.ndarray, " _"]]:
    """Assign groups to folds of about equal size and proportions of the classes.

    Args:
        labels: Class of every row, [n].
        groups: Patient or lesion of every row, unicode [n].
        seed: Seed of the assignment.
        num_folds: Number of folds, from 2.

    Returns:
        The sorted row numbers of every fold; with few groups, a fold may be empty.

    Raises:
        ValueError: If no class has as many rows as there are folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # takes a second

    with warnings.catch_warnings():
        # A class may have fewer rows than there are folds.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        folder = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
        return [rows.astype(np.int64) for _, rows in folder.split(labels, labels, groups)]


def cover_classes(
    labels: Int[np.ndarray, " n"],
    groups: Shaped[np.ndarray, " n"],
    rows: Mapping[str, Int64[np.ndarray, " _"]],
    fractions: Mapping[str, float],
    seed: int,
    served_first: Sequence[str] = SERVED_FIRST,
) -> dict[str, Int64[np.ndarray, " _"]]:
    """Move whole groups until every class with enough groups is in all parts.

    Args:
        labels: Class of every row, [n].
        groups: Patient or lesion of every row, unicode [n].
        rows: Row numbers of every part, together all rows, with no group in two parts.
        fractions: Target fraction of the rows in every part.
        seed: Seed of the choice between equivalent groups.
        served_first: Order of the parts that get a class of fewer groups than there are parts.

    Returns:
        The sorted row numbers of every part; the given ones if no class is missing.
    """
    order = [part for part in served_first if part in rows]
    table = _tabulate(labels, groups, rows, order)
    if not table.unmet(table.parts).any():
        return {part: rows[part].astype(np.int64) for part in rows}
    parts = cover_table(table, np.array([fractions[part] for part in order]), seed)
    return {part: np.flatnonzero(parts[table.group_of] == order.index(part)) for part in rows}


def cover_table(
    table: "GroupTable", fractions: Float64[np.ndarray, " parts"], seed: int
) -> Int64[np.ndarray, " groups"]:
    """Return parts of the groups that meet every need that can be met, and balance them.

    Args:
        table: Rows of each class in every group, and the present part of each.
        fractions: Target fraction of the rows in every part.
        seed: Seed of the choice between equivalent groups.
    """
    preference = np.argsort(
        np.random.PCG64([seed, _ORDER_STREAM]).random_raw(len(table.parts)), kind="stable"
    )
    parts = table.parts.copy()
    for group, part in _place_classes(table, preference.tolist()).items():
        parts[group] = part
    return _balance(table, parts, fractions)


@dataclass(frozen=True, eq=False)
class GroupTable:
    """Number of rows of each class in every group; the last column is the number of all rows.

    Attributes:
        group_of: Index of the group of every row, [n].
        counts: Number of rows by group and class.
        parts: Part of every group, as its index in the order in which parts are served.
        required: Whether a part needs a class, by part and class.
    """

    group_of: Int64[np.ndarray, " n"]
    counts: Int64[np.ndarray, "groups classes"]
    parts: Int64[np.ndarray, " groups"]
    required: Bool[np.ndarray, "parts classes"]

    def groups_in(self, parts: Int64[np.ndarray, " groups"]) -> Int64[np.ndarray, "parts classes"]:
        """Return the number of groups with each class in every part."""
        has = self.counts > 0
        return np.stack([has[parts == part].sum(axis=0) for part in range(len(self.required))])

    def unmet(self, parts: Int64[np.ndarray, " groups"]) -> Bool[np.ndarray, "parts classes"]:
        """Return where a part lacks a class that it needs."""
        return self.required & (self.groups_in(parts) == 0)


def _tabulate(
    labels: Int[np.ndarray, " n"],
    groups: Shaped[np.ndarray, " n"],
    rows: Mapping[str, Int64[np.ndarray, " _"]],
    order: Sequence[str],
) -> GroupTable:
    names, group_of = np.unique(groups, return_inverse=True)
    classes, class_of = np.unique(labels, return_inverse=True)
    counts = np.zeros((len(names), len(classes) + 1), np.int64)
    np.add.at(counts, (group_of, class_of), 1)
    counts[:, -1] = counts.sum(axis=1)
    parts = np.zeros(len(names), np.int64)
    for number, part in enumerate(order):
        parts[group_of[rows[part]]] = number
    num_groups = (counts > 0).sum(axis=0)
    required = np.arange(len(order))[:, None] < num_groups
    return GroupTable(group_of, counts, parts, required)


def _place_classes(table: GroupTable, preference: Sequence[int]) -> dict[int, int]:
    """Return an assignment of some groups to parts that gives every part the classes it needs.

    If there is none, or the search does not find it, the last parts in that order lack a
    class first, and no part stays empty.
    """
    num_groups = (table.counts > 0).sum(axis=0)
    last = len(num_groups) - 1  # the sum of all classes: no part may be empty
    needs = [(int(part), int(name)) for part, name in np.argwhere(table.required)]
    needs.sort(key=lambda need: (num_groups[need[1]], need[1], need[0]))
    placed = _search(table, needs, preference)
    if placed is not None:
        return placed
    needs.sort(key=lambda need: (need[1] != last, need[0], num_groups[need[1]], need[1]))
    kept: list[tuple[int, int]] = []
    found: dict[int, int] = {}
    for need in needs:
        placed = _search(table, [*kept, need], preference)
        if placed is not None:
            kept.append(need)
            found = placed
    return found


def _search(
    table: GroupTable, needs: Sequence[tuple[int, int]], preference: Sequence[int]
) -> dict[int, int] | None:
    """Return parts of groups that meet all needs, or None if none are found in time."""
    placed: dict[int, int] = {}
    choices: list[Iterator[int | None]] = []
    chosen: list[int | None] = []
    for _ in range(_MOST_STEPS):
        if len(chosen) == len(needs):
            return placed
        if len(choices) == len(chosen):
            choices.append(_candidates(table, needs[len(chosen)], placed, preference))
        try:
            group = next(choices[-1])
        except StopIteration:
            choices.pop()
            if not chosen:
                return None
            undone = chosen.pop()
            if undone is not None:
                del placed[undone]
            continue
        chosen.append(group)
        if group is not None:
            placed[group] = needs[len(chosen) - 1][0]
    return None


def _candidates(
    table: GroupTable, need: tuple[int, int], placed: Mapping[int, int], preference: Sequence[int]
) -> Iterator[int | None]:
    """Yield groups that can meet a need, those of the part first, or None if it is already met."""
    part, name = need
    if any(where == part and table.counts[group, name] for group, where in placed.items()):
        yield None
        return
    fitting = [group for group in preference if table.counts[group, name] and group not in placed]
    yield from sorted(fitting, key=lambda group: table.parts[group] != part)


def _balance(
    table: GroupTable, parts: Int64[np.ndarray, " groups"], fractions: Float64[np.ndarray, " parts"]
) -> Int64[np.ndarray, " groups"]:
    """Move or exchange groups as long as that improves the proportions.

    This decreases chi-squared over parts and classes of the rows against the target fractions. No
    move takes a class from a part that needs it.
    """
    expected = fractions[:, None] * table.counts.sum(axis=0)
    has = table.counts > 0
    for _ in range(_MOST_MOVES):
        alone = table.required[parts] & (table.groups_in(parts)[parts] == 1) & has
        moves = _moves(table, parts, expected)
        allowed = np.where(alone.any(axis=1)[:, None], np.inf, moves)
        group, part = np.unravel_index(np.argmin(allowed), allowed.shape)
        if allowed[group, part] < 0:
            parts[group] = part
            continue
        if len(parts) > _MOST_SWAPPED:
            break
        swaps = _swaps(table, parts, expected, moves)
        swaps[(alone.astype(np.float64) @ ~has.T) > 0] = np.inf
        swaps = np.maximum(swaps, swaps.T)
        first, second = np.unravel_index(np.argmin(swaps), swaps.shape)
        if not swaps[first, second] < 0:
            break
        parts[[first, second]] = parts[[second, first]]
    return parts


def _moves(
    table: GroupTable,
    parts: Int64[np.ndarray, " groups"],
    expected: Float64[np.ndarray, "parts classes"],
) -> Float64[np.ndarray, "groups parts"]:
    """Return the change of chi-squared when a group moves to a part."""
    rows = np.stack([table.counts[parts == part].sum(axis=0) for part in range(len(expected))])
    counts = table.counts.astype(np.float64)
    squares = counts**2 @ (1 / expected).T
    linear = counts @ (2 * (rows - expected) / expected).T
    groups = np.arange(len(parts))
    leave = (squares - linear)[groups, parts]
    changes = leave[:, None] + squares + linear
    changes[groups, parts] = 0
    return np.round(changes, 9)  # so that all machines break ties alike


def _swaps(
    table: GroupTable,
    parts: Int64[np.ndarray, " groups"],
    expected: Float64[np.ndarray, "parts classes"],
    moves: Float64[np.ndarray, "groups parts"],
) -> Float64[np.ndarray, "groups groups"]:
    """Return the change of chi-squared when two groups are exchanged."""
    there = moves[:, parts]
    weights = (1 / expected)[parts]
    products = (table.counts * weights) @ table.counts.T.astype(np.float64)
    changes = there + there.T - 2 * (products + products.T)
    changes[parts[:, None] == parts] = 0
    return np.round(changes, 9)


def _folds(
    labels: Int[np.ndarray, " n"], groups: Shaped[np.ndarray, " n"]
) -> tuple[int, int] | None:
    """Return the number of folds, and of folds to hold out twice, or None for too few groups."""
    most = min(len(np.unique(groups)), int(np.bincount(labels).max()))
    return next((chosen for chosen in _FOLDS if chosen[0] <= most), None)
