"""Ensembles of models of several labels: the mean probabilities of models and views."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from lmf_jax.distributed.devices import Batch
from lmf_jax.evaluation.multilabel.calibration import LabelCalibrator
from lmf_jax.evaluation.multilabel.scores import logits_of, sigmoid
from lmf_jax.inference.image_ensemble import ImageEnsemble
from lmf_jax.inference.labeler import LabelHeat, TrainedLabeler, decide, explain_labels


@dataclass(frozen=True)
class LabelerEnsemble(ImageEnsemble[TrainedLabeler]):
    """Models of several labels whose probabilities are averaged over models and views.

    It predicts like a :class:`TrainedLabeler`. The sigmoid of its logits are the mean calibrated
    probabilities, without further calibration.
    """

    @property
    def calibrator(self) -> LabelCalibrator:
        """The identity, since the probabilities of the members are calibrated."""
        return LabelCalibrator.identity(len(self.class_names))

    @property
    def thresholds(self) -> Float[np.ndarray, " labels"] | None:
        """The mean of the thresholds of the members; None, for 0.5, if a member has none."""
        thresholds = [m.thresholds for m in self.members if m.thresholds is not None]
        return np.mean(thresholds, axis=0) if len(thresholds) == len(self.members) else None

    def predict(
        self, batches: Iterable[Batch]
    ) -> tuple[Float[np.ndarray, "n labels"], Int[np.ndarray, "n ..."]]:
        """Return the logits of the mean probabilities, and the labels of every example."""
        probabilities, labels = self.predict_members(batches)
        return logits_of(probabilities.mean(axis=0)), labels

    def label_probabilities(
        self, logits: Float[np.ndarray, "n labels"]
    ) -> Float[np.ndarray, "n labels"]:
        """Return the probability of each label for logits of :meth:`predict`."""
        return sigmoid(logits)

    def explain_labels(
        self,
        images: UInt8[np.ndarray, "batch *space channels"],
        metadata: Float32[np.ndarray, "batch columns"] | None = None,
    ) -> list[list[LabelHeat]]:
        """Return the predicted labels of each image, see :meth:`TrainedLabeler.explain_labels`."""
        probabilities = self.probabilities(images, metadata)
        shown = decide(probabilities, self.thresholds)
        return explain_labels(probabilities, shown, lambda ids: self.heat(images, ids, metadata))
