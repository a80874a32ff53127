"""Remarks on a split, such as classes that a part lacks, for the terminal, audit and report."""

import numpy as np
from jaxtyping import Bool

from data.labels import PARTS, Labels, Rows
from data.splits.folds import Fold
from data.splits.validation_cut import lacks_validation

VALIDATION_FROM_TRAINING = (
    "The dataset comes without a validation part: 15 % of its training part is used for "
    "it, chosen by --split-seed; all images of a patient or lesion stay in one part."
)
"""Remark on a split whose validation part was taken from training."""


def split_notes(
    labels: Labels, rows: Rows, split: str | None, fold: Fold | None = None
) -> list[str]:
    """Return remarks on a validation part taken from training, and on classes that a part lacks.

    Each is one line, with the reason.

    Args:
        labels: Labels of the dataset.
        rows: Row numbers of every part.
        split: Name of the split; None for a split file, of which a part may be empty.
        fold: The fold of a cross-validation, if it is one.
    """
    labels, rows = _without_unused(labels, rows)
    num_classes = len(labels.class_names)
    counts = {part: np.bincount(labels.labels[rows[part]], minlength=num_classes) for part in PARTS}
    lines = [VALIDATION_FROM_TRAINING] if split == "official" and lacks_validation(labels) else []
    for class_id, name in enumerate(labels.class_names):
        lacking = [
            part
            for part in PARTS
            if not counts[part][class_id] and (split is not None or counts[part].any())
        ]
        if lacking:
            lines.append(
                f"No image of the class {name} is in the {' and the '.join(lacking)} part: "
                f"{_reason(labels, class_id, split, fold)}."
            )
    return lines


def _without_unused(labels: Labels, rows: Rows) -> tuple[Labels, Rows]:
    """Return the labels of the images that are in a part, and their rows among these."""
    used = np.unique(np.concatenate([rows[part] for part in PARTS]))
    return labels.only(used), {part: np.searchsorted(used, rows[part]) for part in PARTS}


def _reason(labels: Labels, class_id: int, split: str | None, fold: Fold | None) -> str:
    if split is None:
        return "the split file has none there"
    of_class = labels.labels == class_id
    count = int(of_class.sum())
    if not count:
        return "the dataset has none"
    if fold is not None:
        return _reason_in_fold(labels, of_class, split, fold)
    if split == "official" and lacks_validation(labels):
        return "the dataset's own parts have too few images of it, or none"
    if split == "official":
        return "the split that comes with the dataset has none there"
    if split == "grouped" and labels.groups is not None:
        num_groups = len(np.unique(labels.groups[of_class]))
        if num_groups >= len(PARTS):
            return "its patients or lesions were all assigned to other parts"
        owners = "patient or lesion has" if num_groups == 1 else "patients or lesions have"
        return f"{num_groups} {owners} it, and a class needs {len(PARTS)} to be in all parts"
    images = "image" if count == 1 else "images"
    return (
        f"it has {count} {images}, and --split {split} keeps a class of fewer than four images in "
        "the training part"
    )


def _reason_in_fold(
    labels: Labels, of_class: Bool[np.ndarray, " n"], split: str, fold: Fold
) -> str:
    if split == "grouped" and labels.groups is not None:
        count, units = len(np.unique(labels.groups[of_class])), "patients or lesions"
    else:
        count, units = int(of_class.sum()), "images"
    return f"{count} {units} of it are not enough for a part of each of {fold.total} folds"
