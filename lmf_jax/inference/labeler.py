"""A trained model of several labels: prediction and Grad-CAM with the best epoch of a run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from lmf_jax.evaluation.multilabel.calibration import LabelCalibrator, read_label_calibrator
from lmf_jax.evaluation.multilabel.scores import sigmoid
from lmf_jax.evaluation.multilabel.thresholds import FILE_NAME as THRESHOLDS_FILE
from lmf_jax.evaluation.multilabel.thresholds import read_thresholds
from lmf_jax.inference.image_model import ImageModel, read_image_model
from lmf_jax.runs.files import MULTILABEL

LabelHeat = tuple[int, float, Float[np.ndarray, "..."]]
"""Index of a label, its probability, and its Grad-CAM map."""


@dataclass(frozen=True)
class TrainedLabeler(ImageModel):
    """The model of the best epoch of a multi-label run.

    Attributes:
        calibrator: Calibration of the probabilities; None if they are not calibrated.
        thresholds: Calibrated probability from which each label is predicted ``[C]``; None for 0.5.
    """

    calibrator: LabelCalibrator | None = None
    thresholds: Float[np.ndarray, " labels"] | None = None

    def calibrated_probabilities(
        self, outputs: Float[np.ndarray, "n labels"]
    ) -> Float[np.ndarray, "n labels"]:
        """Return the calibrated probability of each label for outputs of the predict step."""
        return self.label_probabilities(np.float32(self.config.logit_scale) * outputs)

    def label_probabilities(
        self, logits: Float[np.ndarray, "n labels"]
    ) -> Float[np.ndarray, "n labels"]:
        """Return the calibrated probability of each label for logits of :meth:`predict`."""
        return sigmoid(logits) if self.calibrator is None else self.calibrator.probabilities(logits)

    def decide(self, probabilities: Float[np.ndarray, "n labels"]) -> Bool[np.ndarray, "n labels"]:
        """Return which labels are predicted for calibrated probabilities."""
        return decide(probabilities, self.thresholds)

    def explain_labels(
        self,
        images: UInt8[np.ndarray, "batch *space channels"],
        metadata: Float32[np.ndarray, "batch columns"] | None = None,
    ) -> list[list[LabelHeat]]:
        """Return, for each image, the predicted labels with probability and Grad-CAM map.

        An image without a predicted label gets its most probable one.
        """
        probabilities = self.probabilities(images, metadata)
        shown = self.decide(probabilities)
        return explain_labels(probabilities, shown, lambda ids: self.heat(images, ids, metadata))


def decide(
    probabilities: Float[np.ndarray, "n labels"],
    thresholds: Float[np.ndarray, " labels"] | None,
) -> Bool[np.ndarray, "n labels"]:
    """Return which labels are predicted.

    Args:
        probabilities: Calibrated ``[n, C]``.
        thresholds: Probability from which each label is predicted ``[C]``; None for 0.5.
    """
    return np.asarray(probabilities >= (0.5 if thresholds is None else thresholds))


def explain_labels(
    probabilities: Float[np.ndarray, "n labels"],
    predicted: Bool[np.ndarray, "n labels"],
    heat: Callable[[Int[np.ndarray, " n"]], Float[np.ndarray, "n ..."]],
) -> list[list[LabelHeat]]:
    """Return the predicted labels of each image, or else its most probable one, with their maps.

    Args:
        probabilities: Of each label ``[n, C]``.
        predicted: Whether each label is predicted ``[n, C]``.
        heat: Returns the Grad-CAM map of one label in each image, given the index for each.
    """
    shown = predicted.copy()
    shown[np.arange(len(shown)), probabilities.argmax(axis=1)] |= ~shown.any(axis=1)
    heats = {
        label: heat(np.full(len(shown), label, np.int32))
        for label in np.flatnonzero(shown.any(axis=0)).tolist()
    }
    return [
        [(label, float(row[label]), heats[label][index]) for label in heats if of_image[label]]
        for index, (row, of_image) in enumerate(zip(probabilities, shown, strict=True))
    ]


def load_labeler(run_dir: str | Path) -> TrainedLabeler:
    """Read the model of the best epoch of a multi-label run.

    Raises:
        UserError: If there is no such run, or it has not finished an epoch.
    """
    fields = read_image_model(run_dir, MULTILABEL)
    names = fields["dataset"]["class_names"]
    if not (Path(run_dir) / THRESHOLDS_FILE).exists():  # before the end of the training
        return TrainedLabeler(**fields)
    return TrainedLabeler(
        **fields,
        calibrator=read_label_calibrator(run_dir, names),
        thresholds=read_thresholds(run_dir, names),
    )
