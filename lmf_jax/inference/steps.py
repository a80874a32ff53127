"""The steps of evaluation: from images to logits, to the classes of pixels, or to losses too."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from lmf_jax.distributed.devices import Batch, MappedStep, Variables, map_over_devices
from lmf_jax.losses import Objective
from lmf_jax.models.normalisation import Normalisation, model_inputs


def make_predict_step(
    model: nn.Module,
    normalization: Normalisation | None,
    dtype: Any = jnp.float32,
    devices: Sequence[jax.Device] | None = None,
) -> MappedStep:
    """Return the mapped forward pass in evaluation mode, from images to logits.

    Args:
        model: The module that was trained.
        normalization: What its inputs are normalized by; None if they come normalized.
        dtype: Type of its inputs.
        devices: As given to :func:`lmf_jax.training.step.make_train_step`.
    """

    def predict_step(variables: Variables, images: Array) -> Any:
        return model.apply(variables, model_inputs(images, normalization, dtype), train=False)

    return map_over_devices(predict_step, devices, donate_state=False, sharded_output=True)


def make_segment_step(
    model: nn.Module,
    normalization: Normalisation | None,
    dtype: Any = jnp.float32,
    devices: Sequence[jax.Device] | None = None,
) -> MappedStep:
    """Return the mapped step from images to the predicted class of every pixel, uint8.

    Args:
        model: The module that was trained.
        normalization: As given to :func:`make_predict_step`.
        dtype: Type of its inputs.
        devices: As given to :func:`lmf_jax.training.step.make_train_step`.
    """

    def segment_step(variables: Variables, images: Array) -> Array:
        logits: Any = model.apply(
            variables, model_inputs(images, normalization, dtype), train=False
        )
        return _most_likely(logits)

    return map_over_devices(segment_step, devices, donate_state=False, sharded_output=True)


def make_validation_step(
    model: nn.Module,
    objective: Objective,
    normalization: Normalisation | None,
    dtype: Any = jnp.float32,
    devices: Sequence[jax.Device] | None = None,
) -> MappedStep:
    """Return the mapped step from images and the labels of their pixels to predictions and losses.

    Of variables and ``{"image", "label"}`` it makes the predicted class ids, uint8
    ``[D, B/D, *space]``, and for each image the objective of that image alone ``[D, B/D]``; the
    logits, which are many times larger, stay on the device.

    Args:
        model: The module that is trained.
        objective: What it is trained for.
        normalization: As given to :func:`make_predict_step`.
        dtype: Type of its inputs.
        devices: As given to :func:`lmf_jax.training.step.make_train_step`.
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
