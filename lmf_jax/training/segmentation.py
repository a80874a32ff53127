"""The program of a segmentation run, with its validation metrics."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int64, Integer

from lmf_jax.config import ResolvedConfig
from lmf_jax.distributed.devices import AXIS, Batch, MappedStep, Variables, shard_batch
from lmf_jax.distributed.gather import gather_batches
from lmf_jax.evaluation.segmentation.metrics import case_counts, overlap_metrics
from lmf_jax.inference.steps import make_validation_step
from lmf_jax.losses import build_objective
from lmf_jax.losses.checks import ClassCounts
from lmf_jax.models import create_model
from lmf_jax.models.normalization import NORMALIZATIONS, VolumeNormalization
from lmf_jax.training.program import Program, Validation, make_training_parts


@dataclass(frozen=True, kw_only=True)
class Segmentation(Program):
    """A run that trains a segmenter."""

    examples: ClassVar[str] = "cases"
    score: ClassVar[str] = "val_dsc"

    validation_step: MappedStep

    def validate(self, variables: Variables, batches: Iterable[Batch], step: int) -> Validation:
        """Return loss, DSC and IoU of the validation cases.

        The loss is the mean of the losses of single images or patches. DSC and IoU are means over
        cases and foreground classes.
        """
        losses, counts = validate_cases(self.validation_step, variables, batches, self.num_classes)
        if not np.isfinite(losses).all():
            raise self.not_finite(step)
        metrics = overlap_metrics(counts)
        return Validation(
            {
                "val_loss": float(losses.mean()),
                "val_dsc": float(metrics["dsc"][:, 1:].mean()),
                "val_iou": float(metrics["iou"][:, 1:].mean()),
            }
        )


def make_segmentation(
    config: ResolvedConfig,
    class_counts: ClassCounts,
    *,
    num_examples: int,
    num_channels: int = 3,
    intensity: Sequence[Mapping[str, float] | None] | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Segmentation:
    """Build the program of a segmentation run; with a patch size, of a run on volumes.

    Args:
        config: All settings.
        class_counts: Training pixels or voxels per class, ``[C]``, the background first.
        num_examples: Images or patches per epoch.
        num_channels: Channels of an image, or modalities of a volume.
        intensity: Statistics that normalize each modality of a volume, see
            :class:`lmf_jax.models.normalization.IntensityStatistics`; None for modalities that come
            normalized.
        devices: The devices of the steps (default: all).

    Raises:
        UserError: If the batch cannot be divided over the devices, or a class has no pixel.
    """
    data, settings = config.data, config.model
    dtype = jnp.dtype(settings.precision)
    space = data.patch_size or data.image_spec.size
    normalization = (
        VolumeNormalization.of(intensity)
        if data.patch_size
        else NORMALIZATIONS[settings.normalization].for_channels(num_channels)
    )
    make_model = partial(
        create_model,
        settings.model,
        num_classes=len(class_counts),
        dtype=dtype,
        spatial_dims=3 if data.patch_size else 2,
    )
    model = make_model(axis_name=AXIS, remat=settings.remat)
    parts = make_training_parts(
        config,
        lambda: build_objective(config.loss, class_counts, head=config.model.head),
        num_examples=num_examples,
        image_shape=(*space, num_channels),
        normalization=normalization,
        model=model,
        starting_point=lambda: None,
        devices=devices,
    )
    step = make_validation_step(model, parts["objective"], normalization, dtype, devices)
    return Segmentation(
        model=make_model(),
        start="where it stopped" if config.run.resume else "random weights",
        validation_step=step,
        **parts,
    )


def validate_cases(
    validation_step: Callable[[Variables, Any], Any],
    variables: Variables,
    batches: Iterable[Batch],
    num_classes: int,
) -> tuple[Float[np.ndarray, " images"], Int64[np.ndarray, "cases classes 3"]]:
    """Return the loss of every image or patch, and the confusion counts of every case.

    Args:
        validation_step: The step, from :func:`lmf_jax.inference.steps.make_validation_step`.
        variables: ``{"params", "batch_stats"}``.
        batches: This process's ``{"image", "label", "mask"}``, equally many in every process. If
            images are parts of cases, ``case`` is the case of each ``[B]``, and counts are summed
            by case.
        num_classes: Number of classes, with the background.

    Returns:
        The losses in the order of the batches, and the true positives, false positives and false
        negatives of each case and class.
    """
    blocks: dict[str, list[np.ndarray]] = defaultdict(list)
    for batch in batches:
        labels = batch["label"]
        sharded = shard_batch({"image": batch["image"], "label": labels})
        predictions, losses = map(np.asarray, validation_step(variables, sharded))
        pairs = zip(labels, predictions.reshape(labels.shape), strict=True)
        blocks["loss"].append(losses.ravel())
        blocks["counts"].append(np.stack([case_counts(*pair, num_classes) for pair in pairs]))
        blocks["mask"].append(batch["mask"])
        if "case" in batch:
            blocks["case"].append(batch["case"])
    gathered = gather_batches(blocks)
    mask = gathered["mask"]
    counts = gathered["counts"][mask]
    if "case" in gathered:
        counts = _sum_by_case(counts, gathered["case"][mask])
    return gathered["loss"][mask], counts


def _sum_by_case(
    counts: Int64[np.ndarray, "images classes 3"], cases: Integer[np.ndarray, " images"]
) -> Int64[np.ndarray, "cases classes 3"]:
    names, case_indices = np.unique(cases, return_inverse=True)
    sums = np.zeros((len(names), *counts.shape[1:]), counts.dtype)
    np.add.at(sums, case_indices, counts)
    return sums
