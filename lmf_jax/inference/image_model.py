"""A trained model with outputs for the whole image: the shared part of classifier and labeler."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, UInt8

from lmf_jax.config import ResolvedConfig
from lmf_jax.distributed.devices import (
    Batch,
    MappedStep,
    Variables,
    replicate,
    shard_batch,
)
from lmf_jax.evaluation.classification.gradcam import grad_cam
from lmf_jax.inference.predict import predict
from lmf_jax.inference.steps import make_predict_step
from lmf_jax.metadata_encoding import MetadataEncoding, parse_encoding
from lmf_jax.models import create_model
from lmf_jax.models.classifier import Classifier
from lmf_jax.models.normalization import Normalization, normalize_images
from lmf_jax.runs.best_checkpoint import read_best
from lmf_jax.runs.files import read_record_of
from lmf_jax.runs.folder import read_config
from lmf_jax.runs.folds import require_single_run


@dataclass(frozen=True)
class ImageModel(ABC):
    """The model of the best epoch of a run.

    Attributes:
        config: The settings of the run.
        dataset: The recorded description of the data: ``name``, ``fingerprint``, ``class_names``,
            ``class_counts``.
        model: The model, for images from :meth:`normalize`.
        variables: ``{"params", "batch_stats"}``, on the devices.
        normalization: Normalization of the images.
        compiled_step: The step that validated the model, which saves a second compilation; None
            makes a new one.
    """

    config: ResolvedConfig
    dataset: Mapping[str, Any]
    model: Classifier
    variables: Variables
    normalization: Normalization
    compiled_step: MappedStep | None = None

    @abstractmethod
    def calibrated_probabilities(
        self, outputs: Float[np.ndarray, "n classes"]
    ) -> Float[np.ndarray, "n classes"]:
        """Return the calibrated probabilities for outputs of :attr:`predict_step`."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of every class or label, in the order of the outputs."""
        return tuple(self.dataset["class_names"])

    @cached_property
    def encoding(self) -> MetadataEncoding | None:
        """The encoding of the metadata beside the image; None if the model takes images alone."""
        return recorded_encoding(self.dataset)

    @cached_property
    def predict_step(self) -> MappedStep:
        """The mapped forward pass from ``variables`` and a sharded batch to logits.

        The batch has ``"image"``, uint8, and ``"metadata"`` if the model has an encoding.
        """
        return self.compiled_step or make_predict_step(self.model, self.normalization, self._dtype)

    @property
    def _dtype(self) -> jnp.dtype:
        return jnp.dtype(self.config.model.precision)

    def predict(
        self, batches: Iterable[Batch]
    ) -> tuple[Float[np.ndarray, "n classes"], Int[np.ndarray, "n ..."]]:
        """Return the logits, not calibrated, and the labels of every example."""
        scale = self.config.logit_scale
        return predict(self.predict_step, self.variables, batches, scale=scale)

    def normalize(self, images: UInt8[Array, "*batch channels"]) -> Float[Array, "*batch channels"]:
        """Return the inputs of the model for images in 0 to 255."""
        return normalize_images(images, self.normalization, self._dtype)

    def probabilities(
        self,
        images: UInt8[np.ndarray, "batch *space channels"],
        metadata: Float32[np.ndarray, "batch columns"] | None = None,
    ) -> Float[np.ndarray, "batch classes"]:
        """Return calibrated probabilities of images in 0 to 255, in the training size.

        Args:
            images: The images.
            metadata: Their metadata, from ``encoding.encode``; None if they are unknown, or the
                model takes images alone.
        """
        batch = {"image": images, **self._further_inputs(metadata, len(images))}
        missing = -len(images) % jax.local_device_count()  # every device gets as many images
        padded = {
            name: np.pad(values, [(0, missing), *[(0, 0)] * (values.ndim - 1)])
            for name, values in batch.items()
        }
        logits = np.asarray(self.predict_step(self.variables, shard_batch(padded)))
        return self.calibrated_probabilities(
            logits.reshape(len(images) + missing, -1)[: len(images)]
        )

    def _further_inputs(
        self, metadata: Float32[np.ndarray, "batch columns"] | None, n: int
    ) -> dict[str, Float32[np.ndarray, "batch columns"]]:
        """Return the inputs of the model besides the images."""
        if self.encoding is None:
            return {}
        return {"metadata": self.encoding.encode({}, n) if metadata is None else metadata}

    def heat(
        self,
        images: UInt8[np.ndarray, "batch *space channels"],
        class_ids: Int[np.ndarray, " batch"],
        metadata: Float32[np.ndarray, "batch columns"] | None = None,
    ) -> Float[np.ndarray, "batch ..."]:
        """Return the Grad-CAM map of one class in each image, see :func:`grad_cam`.

        Args:
            images: The images.
            class_ids: The class of each.
            metadata: As for :meth:`probabilities`.
        """
        inputs = self.normalize(jnp.asarray(images))
        classes = jnp.asarray(class_ids.astype(np.int32))
        further = self._further_inputs(metadata, len(images))
        return np.asarray(grad_cam(self.model, self.variables, inputs, classes, **further))


def recorded_encoding(dataset: Mapping[str, Any]) -> MetadataEncoding | None:
    """Return the encoding of the metadata in a recorded description of data; None without one.

    Args:
        dataset: The entry ``dataset`` of ``config.json``.

    Raises:
        ValueError: If the record is broken; :func:`lmf_jax.runs.files.read_record` checks it.
    """
    return parse_encoding(dataset["metadata"]) if "metadata" in dataset else None


def read_image_model(run_dir: str | Path, task: str) -> dict[str, Any]:
    """Return the fields of an :class:`ImageModel`: the model of the best epoch of a run.

    Args:
        run_dir: The folder of the run.
        task: Its task.

    Raises:
        UserError: If there is no such run, or it has not finished an epoch.
    """
    record = read_record_of(run_dir, task)
    require_single_run(run_dir)
    config = read_config(run_dir)
    variables, normalization = read_best(Path(run_dir) / "checkpoints")
    assert isinstance(normalization, Normalization)  # the images come as uint8
    encoding = recorded_encoding(record["dataset"])
    model: Any = create_model(
        config.model.model,
        num_classes=len(record["dataset"]["class_names"]),
        dtype=jnp.dtype(config.model.precision),
        head=config.model.head,
        metadata_widths=encoding.widths if encoding else (),
        pairs=config.data.pair_by is not None,
    )
    return {
        "config": config,
        "dataset": record["dataset"],
        "model": model,
        "variables": replicate(variables),
        "normalization": normalization,
    }
