"""Prediction of all examples of a part of the data."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int

from lmf_jax.distributed.devices import Batch, Variables, shard_batch
from lmf_jax.distributed.gather import gather_batches
from lmf_jax.inference.views import IDENTITY, View
from lmf_jax.models.further_inputs import further_inputs


def predict(
    predict_step: Callable[[Variables, Batch], Array],
    variables: Variables,
    batches: Iterable[Batch],
    *,
    scale: float = 1.0,
) -> tuple[Float[np.ndarray, "n classes"], Int[np.ndarray, "n ..."]]:
    """Return logits and labels of every example once, in the order of the batches.

    Args:
        predict_step: The step, from :func:`lmf_jax.inference.steps.make_predict_step`.
        variables: ``{"params", "batch_stats"}``.
        batches: This process's ``{"image", "label", "mask"}`` with the further inputs of the model,
            equally many in every process.
        scale: Factor of the logits, see :attr:`ResolvedConfig.logit_scale`.
    """
    logits, labels = predict_views([(predict_step, variables)], batches, (IDENTITY,))
    return np.float32(scale) * logits[:, 0], labels


def predict_views(
    members: Sequence[tuple[Callable[[Variables, Batch], Array], Variables]],
    batches: Iterable[Batch],
    views: Sequence[View],
    columns: Sequence[slice] | None = None,
) -> tuple[Float[np.ndarray, "n predictions classes"], Int[np.ndarray, "n ..."]]:
    """Return the logits of every example by every model in every view, and the labels.

    Args:
        members: Step and variables of each model.
        batches: This process's ``{"image", "label", "mask"}`` with the further inputs of the model,
            equally many in every process.
        views: Views of the images.
        columns: The columns of ``"metadata"`` in a batch that each model takes; a model that takes
            none gets images alone (default: all columns, if there are metadata).

    Returns:
        Unscaled logits ``[n, members * views, C]``, the views of the first model first, and the
        labels ``[n]`` or label vectors ``[n, C]``, in the order of the batches.
    """
    logits: list[list[Any]] = []
    labels, masks = [], []
    for batch in batches:
        of_views = [shard_batch({"image": view.apply(batch["image"])}) for view in views]
        further = further_inputs(batch)
        of_members = [further] * len(members)
        if columns is not None and further:
            of_members = [_columns_of(further, of_member) for of_member in columns]
        inputs = [
            (step, variables, images | own)
            for (step, variables), own in zip(members, map(shard_batch, of_members), strict=True)
            for images in of_views
        ]
        logits.append([step(variables, x) for step, variables, x in inputs])
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


def _columns_of(further: Batch, columns: slice) -> dict[str, Any]:
    """Return the further inputs with some columns of the metadata, or without any."""
    own = further["metadata"][:, columns]
    others = {name: values for name, values in further.items() if name != "metadata"}
    return {**others, "metadata": own} if own.shape[1] else others
