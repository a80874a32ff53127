"""Prediction of all examples of a part of the data."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int

from lmf_jax.distributed.devices import Batch, Variables, shard_batch
from lmf_jax.distributed.gather import gather_batches


def predict(
    predict_step: Callable[[Variables, Array], Array],
    variables: Variables,
    batches: Iterable[Batch],
    *,
    scale: float = 1.0,
) -> tuple[Float[np.ndarray, "n classes"], Int[np.ndarray, " n"]]:
    """Return logits and labels of every example once, in the order of the batches.

    Args:
        predict_step: The step, from :func:`lmf_jax.inference.steps.make_predict_step`.
        variables: ``{"params", "batch_stats"}``.
        batches: This process's ``{"image", "label", "mask"}``, equally many in every process.
        scale: Factor of the logits, see :attr:`ResolvedConfig.logit_scale`.
    """
    logits: list[Any] = []
    labels, masks = [], []
    for batch in batches:
        logits.append(predict_step(variables, shard_batch(batch)["image"]))
        labels.append(batch["label"])
        masks.append(batch["mask"])
        if len(logits) > 2:  # wait for the device, or the images of all batches would fill it
            logits[-3] = np.asarray(logits[-3])
    rows = [np.asarray(x).reshape(len(y), -1) for x, y in zip(logits, labels, strict=True)]
    gathered = gather_batches({"logits": rows, "labels": labels, "mask": masks})
    mask = gathered["mask"]
    return np.float32(scale) * gathered["logits"][mask], gathered["labels"][mask]
