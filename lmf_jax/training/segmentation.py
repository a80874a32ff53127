"""Training of a segmenter: its program, and what it finds in every case."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int64, Integer, UInt8

from lmf_jax.config import Config
from lmf_jax.evaluation.segmentation_metrics import case_counts, overlap_metrics
from lmf_jax.losses.checks import ClassCounts
from lmf_jax.models import create_model
from lmf_jax.models.normalisation import NORMALISATIONS
from lmf_jax.training.gather import gather_batches
from lmf_jax.training.program import Program, make_parts
from lmf_jax.training.step import (
    AXIS,
    Batch,
    MappedStep,
    Variables,
    make_segment_step,
    spread_over_devices,
)

Predictions = UInt8[np.ndarray, "batch *space"]


@dataclass(frozen=True, kw_only=True)
class Segmentation(Program):
    """A run that trains a segmenter."""

    score: ClassVar[str] = "val_dsc"

    segment_step: MappedStep

    def validate(
        self, variables: Variables, batches: Iterable[Batch], step: int
    ) -> dict[str, float]:
        """Return loss, DSC and IoU of the validation cases, see :class:`Program`.

        The loss is the mean over images or patches of the loss of each alone. DSC and IoU are means
        over cases and then over the classes of the foreground.
        """
        found = segment(self.segment_step, variables, batches, self.num_classes)
        if not np.isfinite(found.losses).all():
            raise self.not_finite(step)
        metrics = overlap_metrics(found.counts)
        return {
            "val_loss": float(found.losses.mean()),
            "val_dsc": float(metrics["dsc"][:, 1:].mean()),
            "val_iou": float(metrics["iou"][:, 1:].mean()),
        }


def make_segmentation(
    config: Config,
    class_counts: ClassCounts,
    *,
    num_examples: int,
    num_channels: int = 3,
    devices: Sequence[jax.Device] | None = None,
) -> Segmentation:
    """Put a run together from its settings.

    Args:
        config: resolved settings; with a patch size it is of volumes.
        class_counts: training pixels or voxels per class ``[C]``, the background first.
        num_examples: images or patches that an epoch goes through.
        num_channels: of an image, or modalities of a volume.
        devices: what the steps are for; by itself all devices there are.

    Raises:
        UserError: if the batch cannot be spread over the devices, or a class has no pixel.
    """
    dtype = jnp.dtype(config.precision)
    space = config.patch_size or (config.image_size, config.image_size)
    normalisation = None if config.patch_size else NORMALISATIONS[config.normalisation]
    make_model = partial(
        create_model,
        config.model,
        num_classes=len(class_counts),
        dtype=dtype,
        spatial_dims=len(space),
    )
    model = make_model(axis_name=AXIS, remat=config.remat)
    parts = make_parts(
        config,
        class_counts,
        num_examples=num_examples,
        image_shape=(*space, num_channels),
        normalisation=normalisation,
        model=model,
        starting_point=lambda: None,
        devices=devices,
    )
    step = make_segment_step(model, parts["objective"], normalisation, dtype, devices)
    return Segmentation(
        model=make_model(),
        start="where it stopped" if config.resume else "random weights",
        segment_step=step,
        **parts,
    )


@dataclass(frozen=True)
class Segmented:
    """What was found in each case, in the order of the batches.

    Attributes:
        losses: of each image or patch ``[m]``.
        counts: true positives, false positives and false negatives of each case and class
            ``[n, C, 3]``.
        others: what was measured besides, of each image or patch ``[m, ...]``.
    """

    losses: Float[np.ndarray, " m"]
    counts: Int64[np.ndarray, "n classes 3"]
    others: Float[np.ndarray, "m ..."]


def segment(
    segment_step: Callable[[Variables, Any], Any],
    variables: Variables,
    batches: Iterable[Batch],
    num_classes: int,
    measure: Callable[[Integer[np.ndarray, "*space"], Predictions], Any] = lambda *_: 0.0,
) -> Segmented:
    """Predict the class of every pixel, and count in each case what is right and what is wrong.

    Args:
        segment_step: from :func:`lmf_jax.training.step.make_segment_step`.
        variables: ``{"params", "batch_stats"}``.
        batches: this process's ``{"image", "label", "mask"}``, equally many in every process. Where
            images are parts of cases, ``case`` says of which: their counts are summed.
        num_classes: with the background.
        measure: of labels and prediction of an image, what else is wanted of it.
    """
    blocks: dict[str, list[np.ndarray]] = {
        name: [] for name in ("loss", "counts", "other", "mask", "case")
    }
    for batch in batches:
        on_devices = spread_over_devices({name: batch[name] for name in ("image", "label")})
        predictions, losses = map(np.asarray, segment_step(variables, on_devices))
        labels = batch["label"]
        pairs = list(zip(labels, predictions.reshape(labels.shape), strict=True))
        blocks["loss"].append(losses.ravel())
        blocks["counts"].append(np.stack([case_counts(*pair, num_classes) for pair in pairs]))
        blocks["other"].append(np.stack([np.asarray(measure(*pair), float) for pair in pairs]))
        blocks["mask"].append(batch["mask"])
        blocks["case"].append(batch.get("case", np.full(len(labels), -1)))
    everything = gather_batches(blocks)
    mask = everything.pop("mask")
    found = {name: values[mask] for name, values in everything.items()}
    counts = found["counts"]
    if len(counts) and found["case"][0] >= 0:
        _, places = np.unique(found["case"], return_inverse=True)
        counts = np.zeros((places.max() + 1, *counts.shape[1:]), counts.dtype)
        np.add.at(counts, places, found["counts"])
    return Segmented(found["loss"], counts, found["other"])
