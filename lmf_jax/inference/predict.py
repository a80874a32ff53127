"""Prediction of all examples of a part of the data."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int

from lmf_jax.distributed.devices import Batch, Variables, shard_batch
from lmf_jax.distributed.gather import gather_batches
from lmf_jax.inference.views import IDENTITY, View


def predict(
    predict_step: Callable[[Variables, Array], Array],
    variables: Variables,
    batches: Iterable[Batch],
    *,
    scale: float = 1.0,
) -> tuple[Float[np.ndarray, "n classes"], Int[np.ndarray, "n ..."]]:
    """Return logits and labels of every example once, in the order of the batches.

    Args:
        predict_step: The step, from :func:`lmf_jax.inference.steps.make_predict_step`.
        variables: ``{"params", "batch_stats"}``.
        batches: This process's ``{"image", "label", "mask"}``, equally many in every process.
        scale: Factor of the logits, see :attr:`ResolvedConfig.logit_scale`.
    """
    logits, labels = predict_views([(predict_step, variables)], batches, (IDENTITY,))
    return np.float32(scale) * logits[:, 0], labels


def predict_views(
    members: Sequence[tuple[Callable[[Variables, Array], Array], Variables]],
    batches: Iterable[Batch],
    views: Sequence[View],
) -> tuple[Float[np.ndarray, "n predictions classes"], Int[np.ndarray, "n ..."]]:
    """Return the logits of every example by every model in every view, and the labels.

    Args:
        members: Step and variables of each model.
        batches: This process's ``{"image", "label", "mask"}``, equally many in every process.
        views: Views of the images.

    Returns:
        Unscaled logits ``[n, members * views, C]``, the views of the first model first, and the
        labels ``[n]`` or label vectors ``[n, C]``, in the order of the batches.
    """
    logits: list[list[Any]] = []
    labels, masks = [], []
    for batch in batches:
        images = [shard_batch({"image": view.apply(batch["image"])})["image"] for view in views]
        logits.append([step(variables, x) for step, variables in members for x in images])
        labels.append(batch["label"])
        masks.append(batch["mask"])
        if len(logits) > 2:  # wait for the device, or the images of all batches would fill it
            logits[-3] = [np.asarray(x) for x in logits[-3]]
    rows = [
        np.stack([np.asarray(x).reshape(len(y), -1) for x in of_batch], axis=1)
        for of_batch, y in zip(logits, labels, strict=True)
    ]
    gathered = gather_batches({"logits": rows, "labels": labels, "mask": masks})
    mask = gathered["mask"]
    return gathered["logits"][mask], gathered["labels"][mask]
