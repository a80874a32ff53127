"""Evaluation steps: from images to logits, label maps or losses."""

from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from lmf_jax.distributed.devices import Batch, MappedStep, Variables, map_over_devices
from lmf_jax.losses import Objective
from lmf_jax.models.further_inputs import further_inputs
from lmf_jax.models.normalization import AnyNormalization, model_inputs


def make_predict_step(
    model: nn.Module,
    normalization: AnyNormalization | None,
    dtype: Any = jnp.float32,
    devices: Sequence[jax.Device] | None = None,
    *,
    output: Literal["logits", "classes"] = "logits",
) -> MappedStep:
    """Return the mapped forward pass in evaluation mode, from images to logits or classes.

    It maps variables and ``{"image": [D, B/D, *space, channels]}``, with the further inputs of the
    model, such as ``"metadata"``, to the output of each image.

    Args:
        model: The trained module.
        normalization: Normalization of the images; None if they come normalized.
        dtype: Type of the model's inputs.
        devices: The devices to map over (default: all).
        output: "classes" returns the most probable class instead of the logits, uint8: of every
            pixel, if the model segments.
    """

    def predict_step(variables: Variables, batch: Batch) -> Any:
        inputs = model_inputs(batch["image"], normalization, dtype)
        logits: Any = model.apply(variables, inputs, train=False, **further_inputs(batch))
        return logits if output == "logits" else _most_likely(logits)

    return map_over_devices(predict_step, devices, donate_state=False, sharded_output=True)


def make_validation_step(
    model: nn.Module,
    objective: Objective,
    normalization: AnyNormalization | None,
    dtype: Any = jnp.float32,
    devices: Sequence[jax.Device] | None = None,
) -> MappedStep:
    """Return the mapped step from images and labels per pixel to predictions and losses.

    It maps variables and ``{"image", "label"}`` to the predicted class ids, uint8
    ``[D, B/D, *space]``, and the objective of each single image ``[D, B/D]``. The logits, which are
    many times larger, stay on the device.

    Args:
        model: The module in training.
        objective: The objective of the training.
        normalization: Normalization of the images; None if they come normalized.
        dtype: Type of the model's inputs.
        devices: The devices to map over (default: all).
    """

    def loss_of_one(logits: Array, labels: Array) -> Array:
        return objective(logits[None], labels[None])

    def validation_step(variables: Variables, batch: Batch) -> tuple[Array, Array]:
        inputs = model_inputs(batch["image"], normalization, dtype)
        logits: Any = model.apply(variables, inputs, train=False)
        return _most_likely(logits), jax.vmap(loss_of_one)(logits, batch["label"])

    return map_over_devices(validation_step, devices, donate_state=False, sharded_output=True)


def _most_likely(logits: Float[Array, "*batch classes"]) -> UInt8[Array, "*batch"]:
    return jnp.argmax(logits, axis=-1).astype(jnp.uint8)
