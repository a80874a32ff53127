"""Split methods: rows of the training, validation and test parts."""

import numpy as np

from data.labels import PARTS, Labels, Rows
from data.splits.folds import Fold, default_fold_split, fold_split
from data.splits.grouped import GROUPED_VERSIONS, can_be_grouped, grouped_split
from data.splits.label_strata import label_split
from data.splits.paper import paper_split
from data.splits.validation_cut import cut_validation, lacks_validation
from lmf_jax.errors import UserError


def possible_splits(labels: Labels) -> list[str]:
    """Return the names of the possible splits of a dataset; the first is the default."""
    official = [] if labels.parts is None else ["official"]
    known = labels.groups is not None and can_be_grouped(labels.labels, labels.groups)
    return [*official, "paper", *(["grouped"] if known else [])]


def default_split(labels: Labels, fold: Fold | None = None) -> str:
    """Return the name of the split of a dataset for which none was chosen.

    Args:
        labels: Labels of the dataset.
        fold: The fold of a cross-validation, if it is one.
    """
    return possible_splits(labels)[0] if fold is None else default_fold_split(labels)


def check_seed(split_seed: int) -> None:
    """Raise ``UserError`` unless the seed of a split is a whole number from 0.

    Args:
        split_seed: The seed.
    """
    if split_seed < 0:
        raise UserError(f"--split-seed must be a whole number from 0, got {split_seed}.")


def split_versions(split: str, fold: Fold | None = None) -> tuple[int, ...]:
    """Return the versions of a split method, the present one first.

    Args:
        split: Name of the split.
        fold: The fold of a cross-validation, if it is one.
    """
    return GROUPED_VERSIONS if split == "grouped" and fold is None else (1,)


def make_split(
    labels: Labels,
    split: str,
    seed: int,
    version: int | None = None,
    fold: Fold | None = None,
) -> Rows:
    """Split a dataset.

    Args:
        labels: Labels of the dataset.
        split: "official" (the split of the dataset), "paper" (stratified by class or by every
            label, 70 : 15 : 15) or "grouped" (the same, with no patient or lesion in two parts).
        seed: Seed of the split; any whole number from 0. The official one uses it only if its
            validation part is taken from training.
        version: One of :func:`split_versions`; None takes the present one.
        fold: The fold that is the test part, see :func:`data.splits.folds.fold_split`; None makes a
            single split.

    Returns:
        The sorted row numbers of "train", "validation" and "test".

    Raises:
        UserError: If the dataset does not have this split.
    """
    if fold is not None:
        return fold_split(labels, split, seed, fold)
    if split == "official" and labels.parts is not None:
        if lacks_validation(labels):
            cut = cut_validation(labels, seed)
            return {**cut, "test": np.flatnonzero(labels.parts == "test")}
        return {part: np.flatnonzero(labels.parts == part) for part in PARTS}
    vectors = labels.label_vectors
    if split == "paper" and vectors is not None and len(vectors) >= len(PARTS):
        return label_split(vectors, None, seed)
    if split == "paper":
        return paper_split(labels.labels, seed)
    if split == "grouped" and "grouped" in possible_splits(labels) and labels.groups is not None:
        if vectors is not None:
            return label_split(vectors, labels.groups, seed)
        version = version or GROUPED_VERSIONS[0]
        return grouped_split(labels.labels, labels.groups, seed, version)
    reasons = {
        "official": "the dataset does not come with a split",
        "grouped": "the dataset names no patients or lesions"
        if labels.groups is None
        else "it needs 7 patients or lesions and as many images of a class",
    }
    raise UserError(
        f"--split {split} is not possible: {reasons.get(split, 'there is no such split')}; choose "
        f"{' or '.join(possible_splits(labels))}."
    )
