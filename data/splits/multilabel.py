"""Datasets of images that may have several labels, with a split."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64

from data.names import multilabel_name, parse_name
from data.registry import registered_datasets
from data.splits.dataset import SplitDataset, open_parts
from data.splits.folds import Fold
from lmf_jax.config import DEFAULT_DATA_DIR
from lmf_jax.errors import UserError


@dataclass(frozen=True, eq=False, kw_only=True)
class MultilabelDataset(SplitDataset):
    """Dataset whose images may have several labels, with a split; the classes are the labels.

    Attributes:
        labels: 1 for every label of an example, else 0, or -1 if it is missing, [n, labels].
    """

    labels: Int32[np.ndarray, "n labels"]

    @property
    def description(self) -> dict[str, Any]:
        """Record of the data in ``config.json``, JSON-serializable.

        ``class_counts`` has the number of examples with each label, and ``negative_counts`` that
        of examples without it.
        """
        counts = {part: self.label_counts(part) for part in self.rows}
        return {
            **super().description,
            "class_counts": {part: of_part[:, 1].tolist() for part, of_part in counts.items()},
            "negative_counts": {part: of_part[:, 0].tolist() for part, of_part in counts.items()},
        }

    def label_counts(self, part: str) -> Int64[np.ndarray, "labels 2"]:
        """Return the number of examples of a part without and with each label.

        Args:
            part: "train", "validation" or "test".
        """
        labels = self.labels[self.rows[part]]
        return np.stack([(labels == value).sum(axis=0) for value in (0, 1)], axis=1)


def load_multilabel_dataset(
    name: str,
    *,
    data_dir: str | Path = DEFAULT_DATA_DIR,
    split: str | None = None,
    split_seed: int = 0,
    fingerprint: str | None = None,
    fold: Fold | None = None,
    where: str | None = None,
    pair_by: str | None = None,
) -> MultilabelDataset:
    """Open a dataset of images with several labels and split it, as :func:`load_dataset` does.

    Args:
        name: Name of the dataset: digits_multilabel, odir5k or manifest:FILE.csv.
        data_dir: Folder of prepared datasets; "~" is the home folder.
        split: "paper" (70 : 15 : 15), "grouped" (the same, with no patient or lesion in two parts)
            or "official" (the split of the dataset). None takes "official" if the dataset has one,
            else "paper".
        split_seed: Seed of the split; any whole number from 0.
        fingerprint: Fingerprint recorded by a run; None takes the present version of the split.
        fold: The fold of a cross-validation that is the test part; None makes a single split.
        where: Conditions on the metadata; None keeps all images.
        pair_by: Column of the metadata that tells the two images of a patient or lesion apart, such
            as the eye; they are one example. None makes each image an example.

    Returns:
        The dataset. It depends only on these arguments and the files they name.

    Raises:
        UserError: If a name is unknown or the images have no labels, an argument does not fit the
            dataset, an image is broken, ``data_dir`` cannot be written, or no or all training
            images have a label.
    """
    name = multilabel_name(name)
    if not parse_name(name).has_label_vectors:
        specs = registered_datasets().values()
        choices = (spec.form for spec in specs if spec.task == "multilabel")
        raise UserError(
            f"The images of {name} do not have several labels; choose one of {', '.join(choices)}."
        )
    prepared, parts = open_parts(
        name,
        data_dir,
        split,
        split_seed,
        fingerprint=fingerprint,
        fold=fold,
        where=where,
        pair_by=pair_by,
    )
    assert prepared.label_vectors is not None
    dataset = MultilabelDataset(
        **parts, class_names=prepared.label_names, labels=prepared.label_vectors
    )
    _check_labels(dataset)
    return dataset


def _check_labels(dataset: MultilabelDataset) -> None:
    """Reject a split whose parts are too small to learn a label, or to choose the best epoch."""
    counts = dataset.label_counts("train")
    for value, has in enumerate(("is known not to have", "has")):
        lacking = np.flatnonzero(counts[:, value] == 0)
        if len(lacking):
            names = ", ".join(dataset.class_names[number] for number in lacking)
            raise UserError(
                f"No training image {has} the label {names}, so it cannot be learned; choose "
                "another --split or --split-seed, or leave the label out."
            )
    if not (dataset.label_counts("validation") > 0).all(axis=1).any():
        raise UserError(
            "No label has validation images with and without it, so no epoch can be chosen; choose "
            "another --split or --split-seed, or give more images."
        )
