"""TFDS builder of images that may have several labels, and the features that store them."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int32

from data.builders.images import ImageFilesBuilder
from data.labels import MISSING_LABEL, Labels


class LabelVectorsBuilder(ImageFilesBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Builder of a dataset with one file and several labels per image."""

    def targets(self) -> dict[str, tuple[Any, Iterable[Any]]]:
        """Return the labels and the missing labels with their TFDS features."""
        return label_targets(self.labels.without(self.skipped))


def label_targets(labels: Labels) -> dict[str, tuple[Any, Iterable[Any]]]:
    """Return the labels and the missing labels of all images with their TFDS features.

    Args:
        labels: Labels of images that may have several.
    """
    assert labels.label_vectors is not None
    stored = map(stored_labels, labels.label_vectors)
    present, missing = zip(*((x["labels"], x["missing_labels"]) for x in stored), strict=True)
    features = label_features(labels.label_names)
    return {
        "labels": (features["labels"], present),
        "missing_labels": (features["missing_labels"], missing),
    }


def label_features(label_names: Sequence[str]) -> dict[str, Any]:
    """Return the TFDS features of several labels: those of an image, and those that are missing.

    Args:
        label_names: Name of every label.
    """
    return {
        name: tfds.features.Sequence(tfds.features.ClassLabel(names=list(label_names)))
        for name in ("labels", "missing_labels")
    }


def stored_labels(vector: Int32[np.ndarray, " labels"]) -> dict[str, list[int]]:
    """Return the labels of an image as its features hold them.

    Args:
        vector: 1 for every label of the image, else 0, or -1 if it is missing.
    """
    return {
        "labels": np.flatnonzero(vector == 1).tolist(),
        "missing_labels": np.flatnonzero(vector == MISSING_LABEL).tolist(),
    }
