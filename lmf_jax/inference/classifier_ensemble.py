"""Ensembles of classifiers: the mean of the calibrated probabilities of models and views."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from lmf_jax.distributed.devices import Batch
from lmf_jax.evaluation.calibration import Calibrator
from lmf_jax.evaluation.classification.scores import log_probabilities
from lmf_jax.inference.classifier import TrainedClassifier
from lmf_jax.inference.image_ensemble import ImageEnsemble


@dataclass(frozen=True)
class ClassifierEnsemble(ImageEnsemble[TrainedClassifier]):
    """Classifiers whose probabilities are averaged over models and views.

    It predicts like a :class:`TrainedClassifier`. Its logits are the logarithms of the mean
    calibrated probabilities: their softmax is this mean, without further calibration.
    """

    @property
    def calibrator(self) -> Calibrator:
        """The identity, since the probabilities of the members are calibrated."""
        return Calibrator.identity(len(self.class_names))

    def predict(
        self, batches: Iterable[Batch]
    ) -> tuple[Float[np.ndarray, "n classes"], Int[np.ndarray, " n"]]:
        """Return the logarithms of the mean probabilities, and the labels of every example."""
        probabilities, labels = self.predict_members(batches)
        return log_probabilities(probabilities.mean(axis=0)), labels

    def explain(
        self,
        images: UInt8[np.ndarray, "batch *space channels"],
        metadata: Float32[np.ndarray, "batch columns"] | None = None,
    ) -> tuple[
        Int[np.ndarray, " batch"],
        Float[np.ndarray, " batch"],
        Float[np.ndarray, "batch *space"],
    ]:
        """Return the predicted class of each image, its probability and the mean Grad-CAM map."""
        probabilities = self.probabilities(images, metadata)
        class_ids = probabilities.argmax(axis=1)
        return class_ids, probabilities.max(axis=1), self.heat(images, class_ids, metadata)
