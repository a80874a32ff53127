"""A trained classifier: prediction, evaluation and Grad-CAM with the best epoch of a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int, Integer, UInt8

from lmf_jax.evaluation.calibration import Calibrator, calibrator_of, read_calibration
from lmf_jax.evaluation.classification.gradcam import hottest_slices
from lmf_jax.evaluation.classification.metrics import predicted_classes
from lmf_jax.evaluation.classification.mistakes import (
    Mistakes,
    confident_mistakes,
    write_mistakes,
)
from lmf_jax.evaluation.shown_images import as_rgb
from lmf_jax.inference.image_model import ImageModel, read_image_model
from lmf_jax.runs.files import CLASSIFICATION


@dataclass(frozen=True)
class TrainedClassifier(ImageModel):
    """The model of the best epoch of a classification run.

    Attributes:
        calibrator: Calibration of the probabilities; None if they are not calibrated.
    """

    calibrator: Calibrator | None = None

    def calibrated_probabilities(
        self, outputs: Float[np.ndarray, "n classes"]
    ) -> Float[np.ndarray, "n classes"]:
        """Return the calibrated class probabilities for outputs of :attr:`predict_step`."""
        calibrator = self.calibrator or Calibrator.identity(len(self.class_names))
        return calibrator.probabilities(np.float32(self.config.logit_scale) * outputs)

    def explain(
        self,
        images: UInt8[np.ndarray, "batch *space channels"],
        metadata: Float32[np.ndarray, "batch columns"] | None = None,
    ) -> tuple[
        Int[np.ndarray, " batch"],
        Float[np.ndarray, " batch"],
        Float[np.ndarray, "batch ..."],
    ]:
        """Return the predicted class of each image, its probability and its Grad-CAM map."""
        probabilities = self.probabilities(images, metadata)
        class_ids = probabilities.argmax(axis=1)
        return class_ids, probabilities.max(axis=1), self.heat(images, class_ids, metadata)


def load_classifier(run_dir: str | Path) -> TrainedClassifier:
    """Read the model of the best epoch of a classification run.

    Raises:
        UserError: If there is no such run, or it has not finished an epoch.
    """
    fields = read_image_model(run_dir, CLASSIFICATION)
    calibration = read_calibration(run_dir, len(fields["dataset"]["class_names"]))
    return TrainedClassifier(
        **fields, calibrator=None if calibration is None else calibrator_of(calibration)
    )


def explain_mistakes(
    run_dir: Path,
    classifier: TrainedClassifier,
    images: Any,
    rows: Int[np.ndarray, " n"],
    labels: Integer[np.ndarray, " n"],
    logits: Float[np.ndarray, "n classes"],
    metadata: Float32[np.ndarray, "images columns"] | None = None,
) -> None:
    """Write the most confident mistakes of a test with Grad-CAM for prediction and true class.

    Args:
        run_dir: The folder of the run.
        classifier: The model that made the predictions.
        images: All images of the dataset, uint8, indexed by rows.
        rows: Rows of the test part, ``[n]``.
        labels: Their class ids.
        logits: Their logits.
        metadata: Encoded metadata of all images of the dataset; None if the model takes none.
    """
    indices = confident_mistakes(labels, logits)
    pictures = images[rows[indices]]
    of_pictures = None if metadata is None else metadata[rows[indices]]
    heats = (
        classifier.heat(pictures, class_ids[indices], of_pictures)
        for class_ids in (predicted_classes(logits), labels)
    )
    if pictures.ndim == 5:
        write_mistakes(run_dir, _mistakes_of_volumes(indices, pictures, *heats))
    else:
        write_mistakes(run_dir, Mistakes(indices, as_rgb(pictures), *heats))


def _mistakes_of_volumes(
    indices: Int[np.ndarray, " k"],
    volumes: UInt8[np.ndarray, "k depth h w 1"],
    heat_of_predicted: Float[np.ndarray, "k map_d map_h map_w"],
    heat_of_true: Float[np.ndarray, "k map_d map_h map_w"],
) -> Mistakes:
    """Return the slices of volumes to show, with the front of the body on top.

    Args:
        indices: Index of each volume among the test examples.
        volumes: The volumes.
        heat_of_predicted: Grad-CAM of the predicted class.
        heat_of_true: Grad-CAM of the true class.
    """
    depth = volumes.shape[1]
    upright = as_rgb(volumes[:, :, ::-1])
    hottest = [hottest_slices(heat, depth) for heat in (heat_of_predicted, heat_of_true)]
    heats = [np.asarray(heat)[:, ::-1] for _, heat in hottest]
    slices = [upright[np.arange(len(indices)), np.asarray(index)] for index, _ in hottest]
    return Mistakes(indices, upright[:, depth // 2], *heats, *slices)
