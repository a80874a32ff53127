"""A trained classifier: prediction, evaluation and Grad-CAM with the best epoch of a run."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer, UInt8

from lmf_jax.config import ResolvedConfig
from lmf_jax.distributed.devices import (
    Batch,
    MappedStep,
    Variables,
    replicate,
    shard_batch,
)
from lmf_jax.evaluation.calibration import Calibrator, calibrator_of, read_calibration
from lmf_jax.evaluation.classification.gradcam import grad_cam
from lmf_jax.evaluation.classification.metrics import predicted_classes
from lmf_jax.evaluation.classification.mistakes import Mistakes, confident_mistakes, write_mistakes
from lmf_jax.inference.predict import predict
from lmf_jax.inference.steps import make_predict_step
from lmf_jax.models import create_model
from lmf_jax.models.classifier import Classifier
from lmf_jax.models.normalization import Normalization, normalize_images
from lmf_jax.runs.best_checkpoint import read_best
from lmf_jax.runs.files import CLASSIFICATION, read_record_of
from lmf_jax.runs.folder import read_config
from lmf_jax.runs.folds import require_single_run


@dataclass(frozen=True)
class TrainedClassifier:
    """The model of the best epoch of a run.

    Attributes:
        config: The settings of the run.
        dataset: The recorded description of the data: ``name``, ``fingerprint``, ``class_names``,
            ``class_counts``.
        model: The classifier, for images from :meth:`normalize`.
        variables: ``{"params", "batch_stats"}``, on the devices.
        normalization: Normalization of the images.
        compiled_step: The step that validated the model, which saves a second compilation; None
            makes a new one.
        calibrator: Calibration of the probabilities; None if they are not calibrated.
    """

    config: ResolvedConfig
    dataset: Mapping[str, Any]
    model: Classifier
    variables: Variables
    normalization: Normalization
    compiled_step: MappedStep | None = None
    calibrator: Calibrator | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of every class, by class id."""
        return tuple(self.dataset["class_names"])

    @cached_property
    def predict_step(self) -> MappedStep:
        """The mapped forward pass from ``variables`` and sharded uint8 images to logits."""
        return self.compiled_step or make_predict_step(self.model, self.normalization, self._dtype)

    @property
    def _dtype(self) -> jnp.dtype:
        return jnp.dtype(self.config.model.precision)

    def predict(
        self, batches: Iterable[Batch]
    ) -> tuple[Float[np.ndarray, "n classes"], Int[np.ndarray, " n"]]:
        """Return the logits, not calibrated, and the labels of every example."""
        scale = self.config.logit_scale
        return predict(self.predict_step, self.variables, batches, scale=scale)

    def calibrated_probabilities(
        self, outputs: Float[np.ndarray, "n classes"]
    ) -> Float[np.ndarray, "n classes"]:
        """Return the calibrated class probabilities for outputs of :attr:`predict_step`."""
        calibrator = self.calibrator or Calibrator.identity(len(self.class_names))
        return calibrator.probabilities(np.float32(self.config.logit_scale) * outputs)

    def normalize(self, images: UInt8[Array, "*batch 3"]) -> Float[Array, "*batch 3"]:
        """Return the inputs of the model for RGB images in 0 to 255."""
        return normalize_images(images, self.normalization, self._dtype)

    def probabilities(
        self, images: UInt8[np.ndarray, "batch h w 3"]
    ) -> Float[np.ndarray, "batch classes"]:
        """Return calibrated class probabilities of RGB images in 0 to 255, in the training size."""
        missing = -len(images) % jax.local_device_count()  # every device gets as many images
        padded = np.pad(images, [(0, missing), (0, 0), (0, 0), (0, 0)])
        batch = shard_batch({"image": padded})
        logits = np.asarray(self.predict_step(self.variables, batch["image"]))
        return self.calibrated_probabilities(logits.reshape(len(padded), -1)[: len(images)])

    def explain(
        self, images: UInt8[np.ndarray, "batch h w 3"]
    ) -> tuple[
        Int[np.ndarray, " batch"],
        Float[np.ndarray, " batch"],
        Float[np.ndarray, "batch map_height map_width"],
    ]:
        """Return the predicted class of each image, its probability and its Grad-CAM map."""
        probabilities = self.probabilities(images)
        class_ids = probabilities.argmax(axis=1)
        return class_ids, probabilities.max(axis=1), self.heat(images, class_ids)

    def heat(
        self,
        images: UInt8[np.ndarray, "batch height width 3"],
        class_ids: Int[np.ndarray, " batch"],
    ) -> Float[np.ndarray, "batch map_height map_width"]:
        """Return the Grad-CAM map of one class in each image, see :func:`grad_cam`."""
        inputs = self.normalize(jnp.asarray(images))
        return np.asarray(
            grad_cam(self.model, self.variables, inputs, jnp.asarray(class_ids.astype(np.int32)))
        )


def load_classifier(run_dir: str | Path) -> TrainedClassifier:
    """Read the model of the best epoch of a classification run.

    Raises:
        UserError: If there is no such run, or it has not finished an epoch.
    """
    record = read_record_of(run_dir, CLASSIFICATION)
    require_single_run(run_dir)
    config = read_config(run_dir)
    variables, normalization = read_best(Path(run_dir) / "checkpoints")
    assert normalization is not None  # a classifier's images come as uint8
    model: Any = create_model(
        config.model.model,
        num_classes=len(record["dataset"]["class_names"]),
        dtype=jnp.dtype(config.model.precision),
        head=config.model.head,
    )
    calibration = read_calibration(run_dir, len(record["dataset"]["class_names"]))
    return TrainedClassifier(
        config=config,
        dataset=record["dataset"],
        model=model,
        variables=replicate(variables),
        normalization=normalization,
        calibrator=None if calibration is None else calibrator_of(calibration),
    )


def explain_mistakes(
    run_dir: Path,
    classifier: TrainedClassifier,
    images: Any,
    rows: Int[np.ndarray, " n"],
    labels: Integer[np.ndarray, " n"],
    logits: Float[np.ndarray, "n classes"],
) -> None:
    """Write the most confident mistakes of a test with Grad-CAM for prediction and true class.

    Args:
        run_dir: The folder of the run.
        classifier: The model that made the predictions.
        images: All images of the dataset, uint8 RGB, indexed by rows.
        rows: Rows of the test part, ``[n]``.
        labels: Their class ids.
        logits: Their logits.
    """
    indices = confident_mistakes(labels, logits)
    pictures = images[rows[indices]]
    heats = (
        classifier.heat(pictures, class_ids[indices])
        for class_ids in (predicted_classes(logits), labels)
    )
    write_mistakes(run_dir, Mistakes(indices, pictures, *heats))
