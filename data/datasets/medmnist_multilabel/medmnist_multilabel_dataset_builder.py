"""TFDS builder of a MedMNIST file with several labels per image."""

from collections.abc import Iterable
from typing import Any

from data.builders.label_vectors import label_targets
from data.datasets.medmnist import medmnist_dataset_builder as medmnist
from data.datasets.medmnist_multilabel.labels import read_labels
from data.labels import Labels


class Builder(medmnist.Builder):
    """Builder of medmnist_multilabel:FILE.npz, any flag and size."""

    def read_labels(self) -> Labels:
        """Return the labels of all images, with the official split."""
        return read_labels(self.raw)

    def targets(self) -> dict[str, tuple[Any, Iterable[Any]]]:
        """Return the labels and the missing labels with their TFDS features."""
        return label_targets(self.labels.without(self.skipped))
