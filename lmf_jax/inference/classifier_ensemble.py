"""Ensembles of classifiers: the mean of the calibrated probabilities of models and views."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from lmf_jax.distributed.devices import Batch
from lmf_jax.evaluation.calibration import Calibrator
from lmf_jax.evaluation.classification.gradcam import resize_heat
from lmf_jax.evaluation.classification.scores import log_probabilities
from lmf_jax.inference.classifier import TrainedClassifier
from lmf_jax.inference.ensemble import Ensemble
from lmf_jax.inference.predict import predict_views


@dataclass(frozen=True)
class ClassifierEnsemble(Ensemble[TrainedClassifier]):
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

    def predict_members(
        self, batches: Iterable[Batch]
    ) -> tuple[Float[np.ndarray, "members n classes"], Int[np.ndarray, " n"]]:
        """Return the mean probabilities of each model over its views, and the labels."""
        steps = [(member.predict_step, member.variables) for member in self.members]
        logits, labels = predict_views(steps, batches, self.views)
        by_member = np.split(logits, len(self.members), axis=1)
        means = [
            np.mean([member.calibrated_probabilities(x) for x in of_views.swapaxes(0, 1)], axis=0)
            for member, of_views in zip(self.members, by_member, strict=True)
        ]
        return np.stack(means), labels

    def probabilities(
        self, images: UInt8[np.ndarray, "batch h w 3"]
    ) -> Float[np.ndarray, "batch classes"]:
        """Return the class probabilities of RGB images in 0 to 255, in the size of training."""
        each = [m.probabilities(view.apply(images)) for m in self.members for view in self.views]
        return np.mean(each, axis=0)

    def explain(
        self, images: UInt8[np.ndarray, "batch h w 3"]
    ) -> tuple[
        Int[np.ndarray, " batch"],
        Float[np.ndarray, " batch"],
        Float[np.ndarray, "batch h w"],
    ]:
        """Return the predicted class of each image, its probability and the mean Grad-CAM map.

        The map of each model and view is divided by its maximum, so that all have equal weight.
        """
        probabilities = self.probabilities(images)
        class_ids = probabilities.argmax(axis=1)
        maps = [
            view.undo(np.asarray(resize_heat(heat, *images.shape[1:3]))[..., None])[..., 0]
            for member in self.members
            for view in self.views
            for heat in [member.heat(view.apply(images), class_ids)]
        ]
        return class_ids, probabilities.max(axis=1), np.mean(maps, axis=0)
