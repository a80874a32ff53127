"""Folds for cross-validation: every image is in the test part of exactly one fold."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from data.labels import Labels, Rows
from data.splits.grouped import assign_to_folds, cover_classes
from data.splits.label_strata import label_cut, label_folds
from data.splits.validation_cut import cut_validation
from lmf_jax.errors import UserError

FOLD_SPLITS = ("grouped", "paper")
"""Split methods that folds can follow."""

_FOLD_STREAM = 6  # data/splits/validation_cut.py has the previous one


class Fold(NamedTuple):
    """One fold of a cross-validation.

    Attributes:
        number: Number of the fold, from 1.
        total: Number of folds, from 2.
    """

    number: int
    total: int

    @property
    def suffix(self) -> str:
        """Suffix of the name of the split's file."""
        return f"-fold{self.number}of{self.total}"


def selected_fold(folds: int | None, fold: int | None) -> Fold | None:
    """Return the fold that the settings of a run select; None without folds.

    Args:
        folds: The setting ``folds``.
        fold: The setting ``fold``.

    Raises:
        ValueError: If there are folds and none of them is selected; a run has one.
    """
    if folds is None:
        return None
    if fold is None:
        raise ValueError(f"A run trains one fold; got {folds} folds and no number of one.")
    return Fold(fold, folds)


def default_fold_split(labels: Labels) -> str:
    """Return the split method of folds: "grouped" if patients or lesions are known.

    The default of a single split reproduces the paper, which splits by image. Folds do not follow
    it: with a lesion in two folds, a cross-validation measures how well lesions are recognized
    again.
    """
    return "paper" if labels.groups is None else "grouped"


def fold_split(labels: Labels, split: str, seed: int, fold: Fold) -> Rows:
    """Return the parts of one fold: it is the test part, and 15 % of the rest is for validation.

    The folds depend on the labels, the method, the seed and the number of folds. The validation
    part is cut from the other folds as :func:`data.splits.validation_cut.cut_validation` does, or
    by every label if images may have several.

    Args:
        labels: Labels of the dataset.
        split: "grouped" (stratified by class, no patient or lesion in two folds or in two parts of
            a fold) or "paper" (stratified by class, image by image).
        seed: Seed of the folds; any whole number from 0.
        fold: The fold.

    Returns:
        The sorted row numbers of "train", "validation" and "test".

    Raises:
        UserError: If the dataset does not have such folds, or a class would have no training image
            in one of them.
    """
    fold_of = assign_folds(labels, split, seed, fold.total)
    is_test = fold_of == fold.number - 1
    groups = labels.groups if split == "grouped" else None
    if labels.label_vectors is not None:
        others = np.flatnonzero(~is_test)
        of_others = None if groups is None else groups[others]
        cut = label_cut(labels.label_vectors[others], of_others, seed)
        rows = {part: others[places] for part, places in cut.items()}
        return {**rows, "test": np.flatnonzero(is_test)}
    parts = np.where(is_test, "test", "train")
    rest = Labels(labels.class_names, labels.ids, labels.labels, groups, parts)
    return {**cut_validation(rest, seed), "test": np.flatnonzero(is_test)}


def assign_folds(labels: Labels, split: str, seed: int, total: int) -> Int64[np.ndarray, " n"]:
    """Return the fold of every image, from 0.

    Grouped folds are those of scikit-learn's ``StratifiedGroupKFold`` if every class is in as many
    of them as it can be; else whole groups are moved. Folds by image deal the shuffled images of
    one class after the other, so the sizes of two folds differ by at most one image, in total and
    in every class. Folds of images with several labels are those of
    :func:`data.splits.label_strata.label_folds`.

    Args:
        labels: Labels of the dataset.
        split: "grouped" or "paper".
        seed: Seed of the folds; any whole number from 0.
        total: Number of folds, from 2.

    Raises:
        UserError: As in :func:`fold_split`.
    """
    if split not in FOLD_SPLITS:
        raise UserError(
            f"--split {split} is not possible with --folds, which chooses its own test parts; "
            f"choose {' or '.join(FOLD_SPLITS)}."
        )
    if split == "grouped":
        _check_groups(labels, total)
    if labels.label_vectors is not None:
        fold_of = _label_folds(labels, split, seed, total)
    elif split == "grouped":
        fold_of = _grouped_folds(labels, seed, total)
    else:
        fold_of = _folds_by_image(labels, seed, total)
    _check_trained(labels, fold_of, split, total)
    return fold_of


def _check_groups(labels: Labels, total: int) -> None:
    """Refuse grouped folds without groups, or with too few of them."""
    if labels.groups is None:
        raise UserError(
            "--split grouped is not possible: the dataset names no patients or lesions; choose "
            "paper."
        )
    num_groups, largest = len(np.unique(labels.groups)), int(np.bincount(labels.labels).max())
    if min(num_groups, largest) < total:
        raise UserError(
            f"--folds {total} needs as many patients or lesions, and as many images of a class; "
            f"there are {num_groups}, and {largest} images of the largest class; give fewer "
            "--folds, or --split paper to split by image."
        )


def _label_folds(labels: Labels, split: str, seed: int, total: int) -> Int64[np.ndarray, " n"]:
    assert labels.label_vectors is not None
    if len(labels.ids) < total:
        raise UserError(
            f"--folds {total} needs as many images; there are {len(labels.ids)}; give fewer."
        )
    groups = labels.groups if split == "grouped" else None
    return label_folds(labels.label_vectors, groups, seed, total)


def _grouped_folds(labels: Labels, seed: int, total: int) -> Int64[np.ndarray, " n"]:
    assert labels.groups is not None
    names = [str(number) for number in range(total)]
    folds = assign_to_folds(labels.labels, labels.groups, seed, total)
    if not _are_covered(labels, folds):
        fractions = dict.fromkeys(names, 1 / total)
        rows = dict(zip(names, folds, strict=True))
        rows = cover_classes(labels.labels, labels.groups, rows, fractions, seed, names)
        folds = list(rows.values())
    fold_of = np.zeros(len(labels.labels), np.int64)
    for number, rows_of_fold in enumerate(folds):
        fold_of[rows_of_fold] = number
    return fold_of


def _are_covered(labels: Labels, folds: list[Int64[np.ndarray, " _"]]) -> bool:
    """Return whether every class is in as many folds as it has groups, and no fold is empty."""
    assert labels.groups is not None
    for class_id in np.unique(labels.labels):
        of_class = labels.labels == class_id
        needed = min(len(folds), len(np.unique(labels.groups[of_class])))
        if sum(bool(of_class[rows].any()) for rows in folds) < needed:
            return False
    return all(len(rows) for rows in folds)


def _folds_by_image(labels: Labels, seed: int, total: int) -> Int64[np.ndarray, " n"]:
    fold_of = np.zeros(len(labels.labels), np.int64)
    dealt = 0
    for class_id in np.unique(labels.labels).tolist():
        rows = np.flatnonzero(labels.labels == class_id)
        keys = np.random.PCG64([seed, _FOLD_STREAM, class_id]).random_raw(len(rows))
        fold_of[rows[np.argsort(keys, kind="stable")]] = (dealt + np.arange(len(rows))) % total
        dealt += len(rows)
    return fold_of


def _check_trained(
    labels: Labels, fold_of: Int64[np.ndarray, " n"], split: str, total: int
) -> None:
    """Refuse folds of which one tests on every image of a class, so that none is left to train."""
    unit = "patient or lesion" if split == "grouped" else "image"
    for description, noun, is_member in _members(labels):
        found = np.unique(fold_of[is_member])
        if len(found) == 1:
            raise UserError(
                f"Fold {found[0] + 1} of {total} would test on every {unit} {description} "
                f"and have none to train on; a {noun} needs two for --folds: leave the {noun} out, "
                "or train without --folds."
            )


def _members(labels: Labels) -> Iterator[tuple[str, str, Bool[np.ndarray, " n"]]]:
    """Yield each class, or each label and its absence: a description, the noun and its images."""
    if labels.label_vectors is None:
        for class_id, name in enumerate(labels.class_names):
            yield f"of the class {name}", "class", labels.labels == class_id
        return
    for name, column in zip(labels.label_names, labels.label_vectors.T, strict=True):
        yield f"with the label {name}", "label", column == 1
        yield f"without the label {name}", "label", column == 0
