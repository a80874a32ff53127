"""The program of a classification run, with its validation metrics."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from lmf_jax.config import ResolvedConfig, ResolvedModel
from lmf_jax.distributed.devices import AXIS, Batch, MappedStep, Variables
from lmf_jax.errors import UserError
from lmf_jax.evaluation.classification.metrics import (
    classification_metrics,
    confusion_matrix,
    predicted_classes,
)
from lmf_jax.inference.predict import predict
from lmf_jax.inference.steps import make_predict_step
from lmf_jax.losses import Objective, TrainingProgress, build_objective
from lmf_jax.losses.checks import ClassCounts
from lmf_jax.models import create_model
from lmf_jax.models.gray_weights import sum_over_rgb
from lmf_jax.models.normalization import NORMALIZATIONS, Normalization
from lmf_jax.models.pretrained import load_pretrained
from lmf_jax.training.program import Program, Validation, make_training_parts


@dataclass(frozen=True, kw_only=True)
class ImageProgram(Program):
    """A run that trains a model with logits for the whole image."""

    examples: ClassVar[str] = "images"

    normalization: Normalization
    predict_step: MappedStep

    def predict_validation(
        self, variables: Variables, batches: Iterable[Batch], step: int
    ) -> tuple[Float[np.ndarray, "n classes"], Int[np.ndarray, "n ..."], float]:
        """Return logits, labels and loss of the validation images; see :meth:`validate`."""
        logits, labels = predict(self.predict_step, variables, batches)
        progress = TrainingProgress(step - 1, self.settings.total_steps)
        objective = jax.jit(self.objective)
        loss = objective(jnp.asarray(logits), jnp.asarray(labels), progress=progress)
        # A scaled logit may be infinite where the logit itself is not.
        if not (np.isfinite(logits).all() and np.isfinite(loss)):
            raise self.not_finite(step)
        return logits, labels, float(loss)


@dataclass(frozen=True, kw_only=True)
class Classification(ImageProgram):
    """A run that trains a classifier."""

    score: ClassVar[str] = "val_macro_f1"

    def validate(self, variables: Variables, batches: Iterable[Batch], step: int) -> Validation:
        """Return loss, accuracy and macro F1 of the validation images."""
        logits, labels, loss = self.predict_validation(variables, batches, step)
        predictions = predicted_classes(logits)
        confusion = confusion_matrix(labels, predictions, num_classes=self.num_classes)
        metrics = classification_metrics(np.asarray(confusion))
        return Validation(
            {
                "val_loss": loss,
                "val_accuracy": float(metrics.accuracy),
                "val_macro_f1": float(metrics.macro_f1),
            },
            is_constant=len(np.unique(predictions)) == 1 < len(np.unique(labels)),
        )


def make_classification(
    config: ResolvedConfig,
    class_counts: ClassCounts,
    devices: Sequence[jax.Device] | None = None,
    metadata_widths: Sequence[int] = (),
) -> Classification:
    """Build the program of a classification run.

    Args:
        config: All settings.
        class_counts: Training examples per class, ``[C]``.
        devices: The devices of the steps (default: all). For devices that are only described, the
            steps can be compiled and not run.
        metadata_widths: Features of each metadata column beside the image.

    Raises:
        UserError: If the batch cannot be divided over the devices, a class has no example, or the
            pretrained weights do not fit.
    """
    return Classification(
        **make_image_parts(
            config,
            lambda: build_objective(config.loss, class_counts, head=config.model.head),
            num_classes=len(class_counts),
            num_examples=int(np.sum(class_counts)),
            devices=devices,
            metadata_widths=metadata_widths,
        )
    )


def make_image_parts(
    config: ResolvedConfig,
    make_objective: Callable[[], Objective],
    *,
    num_classes: int,
    num_examples: int,
    devices: Sequence[jax.Device] | None,
    metadata_widths: Sequence[int] = (),
) -> dict[str, Any]:
    """Build the fields of an :class:`ImageProgram`.

    Args:
        config: All settings.
        make_objective: See :func:`lmf_jax.training.program.make_training_parts`.
        num_classes: Number of logits of an image.
        num_examples: Training images.
        devices: The devices of the steps (default: all).
        metadata_widths: Features of each metadata column beside the image.

    Raises:
        UserError: As :func:`make_classification`.
    """
    settings, has_pairs = config.model, config.data.pair_by is not None
    dtype, channels = jnp.dtype(settings.precision), config.data.channels
    normalization = NORMALIZATIONS[settings.normalization].for_channels(channels)
    make_model = partial(
        create_model,
        settings.model,
        num_classes=num_classes,
        dtype=dtype,
        head=settings.head,
        metadata_widths=metadata_widths,
        pairs=has_pairs,
    )
    keeps_head = settings.head == "linear" and not metadata_widths and not has_pairs
    starting_point = partial(_starting_point, settings, num_classes, channels, keeps_head)
    model = make_model(
        axis_name=AXIS, remat=settings.remat, freeze_backbone=settings.freeze_backbone
    )
    start = "where it stopped"
    if not config.run.resume:  # weights that do not fit are refused before anything is written
        start = starting_point()[1]
    parts = make_training_parts(
        config,
        make_objective,
        num_examples=num_examples,
        image_shape=config.data.input_shape,
        normalization=normalization,
        model=model,
        starting_point=lambda: starting_point()[0],
        devices=devices,
        further_shapes={"metadata": (sum(metadata_widths),)} if metadata_widths else {},
    )
    return {
        "model": make_model(),
        "start": start,
        "normalization": normalization,
        "predict_step": make_predict_step(model, normalization, dtype, devices),
        **parts,
    }


def _starting_point(
    settings: ResolvedModel, num_classes: int, channels: int, keeps_head: bool
) -> tuple[Variables | None, str]:
    """Return the initial variables and their description; a head of another shape is dropped."""
    if settings.pretrained == "none":
        return None, "random weights"
    variables = load_pretrained(settings.pretrained, settings.model)
    params, description = dict(variables["params"]), f"the weights {settings.pretrained}"
    if channels == 1:
        try:
            params = sum_over_rgb(params)
        except ValueError as error:
            raise UserError(
                f"--channels 1 cannot start from the weights {settings.pretrained}: {error}"
            ) from error
        description += ", their first kernels summed over RGB for gray images"
    head = params.pop("head", None)
    if head is None:
        description += f", with a new head of {num_classes} classes"
    elif not keeps_head or len(head["bias"]) != num_classes:
        old = len(head["bias"])
        description += f"; a new head of {num_classes} classes replaces theirs of {old:,}"
    else:
        params["head"] = head
    return {"params": params, "batch_stats": variables["batch_stats"]}, description
