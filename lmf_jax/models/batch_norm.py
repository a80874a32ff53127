"""Batch normalization in training, with the statistics of the batch over all devices.

A single rounding error can switch a ReLU on or off, which changes the gradient of a deep network by
percents. Every sum over the batch, forward and backward, is therefore taken in an order that is the
same on one device and on two (:func:`sum_over_batch`). The gradient is written by hand, because it
needs only two such sums, fewer than the automatic one.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float


def normalize(
    inputs: Float[Array, "*batch channels"],
    mean: Float[Array, " channels"],
    var: Float[Array, " channels"],
    scale: Float[Array, " channels"],
    bias: Float[Array, " channels"],
    epsilon: float,
) -> Float[Array, "*batch channels"]:
    """Normalize each channel by a given mean and variance, then scale and shift it.

    Args:
        inputs: Maps of any dtype; the outputs have the same.
        mean: Mean of each channel, in the dtype of the computation.
        var: Variance of each channel.
        scale: Factor of each channel.
        bias: Offset of each channel.
        epsilon: Added to the variance before the square root.
    """
    factor = scale * lax.rsqrt(var + epsilon)
    centered = inputs.astype(mean.dtype) - _per_channel(mean, inputs)
    outputs = centered * _per_channel(factor, inputs) + _per_channel(bias, inputs)
    return outputs.astype(inputs.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalize_batch(
    inputs: Float[Array, "batch *rest channels"],
    scale: Float[Array, " channels"],
    bias: Float[Array, " channels"],
    epsilon: float,
    axis_name: str | None,
) -> tuple[
    Float[Array, "batch *rest channels"], Float[Array, " channels"], Float[Array, " channels"]
]:
    """Normalize each channel by its own mean and biased variance over the whole batch.

    The variance is computed in a second pass, as the mean squared distance from the mean: the
    one-pass form ``E[x^2] - E[x]^2`` cancels in float32.

    Reverse mode and forward over reverse (``jax.grad``, ``jax.hessian``) work. ``jax.jvp`` alone
    does not, because the gradient is written by hand.

    Args:
        inputs: This device's part of the batch.
        scale: Factor of each channel, in the dtype of the statistics.
        bias: Offset of each channel.
        epsilon: Added to the variance before the square root.
        axis_name: The mapped axis over whose devices the batch is spread, or None.

    Returns:
        The outputs in the dtype of the inputs, and the mean and unbiased variance of each channel,
        through which no gradient flows.

    Raises:
        ValueError: If the batch has one value per channel.
    """
    return _forward(inputs, scale, bias, epsilon, axis_name)[0]


def _forward(
    inputs: Array, scale: Array, bias: Array, epsilon: float, axis_name: str | None
) -> tuple[tuple[Array, Array, Array], Any]:
    count = _count(inputs, axis_name)
    if count < 2:
        raise ValueError(
            f"Batch norm got one value per channel (input of shape {inputs.shape}) and needs two "
            "to train: use a larger batch or larger images."
        )
    values = inputs.astype(scale.dtype)
    mean = sum_over_batch(values, axis_name)[1] / count
    squares = jnp.square(values - _per_channel(mean, inputs))
    var = sum_over_batch(squares, axis_name)[1] / count
    outputs = normalize(inputs, mean, var, scale, bias, epsilon)
    return (outputs, mean, var * (count / (count - 1))), (inputs, mean, var, scale)


def _backward(
    epsilon: float, axis_name: str | None, saved: Any, cotangents: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    """Return the gradient of the inputs, and this device's part of those of scale and bias."""
    inputs, mean, var, scale = saved
    count = _count(inputs, axis_name)
    outer = cotangents[0].astype(scale.dtype)
    inverse = lax.rsqrt(var + epsilon)
    values = inputs.astype(scale.dtype) - _per_channel(mean, inputs)
    values = values * _per_channel(inverse, inputs)
    local_bias_sum, bias_sum = sum_over_batch(outer, axis_name)
    local_scale_sum, scale_sum = sum_over_batch(outer * values, axis_name)
    inner = outer - _per_channel(bias_sum / count, inputs)
    inner = inner - values * _per_channel(scale_sum / count, inputs)
    inner = inner * _per_channel(scale * inverse, inputs)
    return inner.astype(inputs.dtype), local_scale_sum, local_bias_sum


normalize_batch.defvjp(_forward, _backward)


def sum_over_batch(
    values: Float[Array, "batch *rest channels"], axis_name: str | None
) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
    """Sum each channel over this device's part of the batch, and over the whole batch.

    On a CPU, the second sum has the same bits on one device and on two: the halves of the batch are
    summed separately even if they are on one device.

    Args:
        values: This device's part of the batch.
        axis_name: The mapped axis over whose devices the batch is spread, or None.
    """
    halves = 2 if _devices(axis_name) == 1 and len(values) % 2 == 0 else 1
    local = lax.platform_dependent(values, cpu=partial(_sum_of_parts, halves), default=_sum)
    return local, local if axis_name is None else lax.psum(local, axis_name)


def _sum(values: Array) -> Array:
    return values.sum(tuple(range(values.ndim - 1)))


def _sum_of_parts(parts: int, values: Array) -> Array:
    # Use a matmul: XLA's order of a plain reduction depends on the surrounding code.
    rows = values.reshape(parts, -1, values.shape[-1])
    ones = jnp.ones((parts, 1, rows.shape[1]), values.dtype)
    return lax.batch_matmul(ones, rows).sum((0, 1))


def _count(inputs: Array, axis_name: str | None) -> int:
    """Return the number of values per channel in the whole batch."""
    return inputs.size // inputs.shape[-1] * _devices(axis_name)


def _devices(axis_name: str | None) -> int:
    return 1 if axis_name is None else lax.axis_size(axis_name)


def _per_channel(channels: Array, like: Array) -> Array:
    return channels.reshape((1,) * (like.ndim - 1) + channels.shape)
