"""Batch normalisation in training: by the statistics of the batch over all devices.

A rounding error is enough to turn a ReLU on or off, and that changes the gradient of a deep network
by percents. So every sum over the batch, forward and backward, is taken in an order that is the
same on one device and on two (:func:`sum_over_batch`), and the gradient is written by hand: it
needs two such sums, where the automatic one needs more, and passes over the maps as often.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float


def normalise(
    inputs: Float[Array, "*batch channels"],
    mean: Float[Array, " channels"],
    var: Float[Array, " channels"],
    scale: Float[Array, " channels"],
    bias: Float[Array, " channels"],
    epsilon: float,
) -> Float[Array, "*batch channels"]:
    """Subtract the mean of each channel, divide by the root of its variance, scale and shift.

    Args:
        inputs: maps of any dtype; the outputs have it too.
        mean: of each channel, in the dtype of the computation.
        var: of each channel.
        scale: factor of each channel.
        bias: summand of each channel.
        epsilon: added to the variance before the square root.
    """
    factor = scale * lax.rsqrt(var + epsilon)
    centred = inputs.astype(mean.dtype) - _per_channel(mean, inputs)
    outputs = centred * _per_channel(factor, inputs) + _per_channel(bias, inputs)
    return outputs.astype(inputs.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalise_batch(
    inputs: Float[Array, "batch *rest channels"],
    scale: Float[Array, " channels"],
    bias: Float[Array, " channels"],
    epsilon: float,
    axis_name: str | None,
) -> tuple[
    Float[Array, "batch *rest channels"], Float[Array, " channels"], Float[Array, " channels"]
]:
    """Normalise each channel by its own mean and biased variance over the whole batch.

    The variance is the mean squared distance from the mean, found in a second pass: the one-pass
    form `E[x^2] - E[x]^2` cancels in float32.

    Reverse mode and forward over reverse (`jax.grad`, `jax.hessian`) work; `jax.jvp` alone does
    not, since the gradient is written by hand.

    Args:
        inputs: this device's part of the batch.
        scale: factor of each channel, in the dtype of the statistics.
        bias: summand of each channel.
        epsilon: added to the variance before the square root.
        axis_name: the mapped axis over whose devices the batch is spread, or None.

    Returns:
        The outputs in the dtype of the inputs; the mean of each channel and its unbiased variance,
        which are constants to a gradient.

    Raises:
        ValueError: if the batch has one value per channel.
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
    outputs = normalise(inputs, mean, var, scale, bias, epsilon)
    return (outputs, mean, var * (count / (count - 1))), (inputs, mean, var, scale)


def _backward(
    epsilon: float, axis_name: str | None, saved: Any, cotangents: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    """Gradients of the inputs, and this device's shares of those of scale and bias."""
    inputs, mean, var, scale = saved
    count = _count(inputs, axis_name)
    outer = cotangents[0].astype(scale.dtype)
    inverse = lax.rsqrt(var + epsilon)
    values = inputs.astype(scale.dtype) - _per_channel(mean, inputs)
    values = values * _per_channel(inverse, inputs)
    bias_share, bias_sum = sum_over_batch(outer, axis_name)
    scale_share, scale_sum = sum_over_batch(outer * values, axis_name)
    inner = outer - _per_channel(bias_sum / count, inputs)
    inner = inner - values * _per_channel(scale_sum / count, inputs)
    inner = inner * _per_channel(scale * inverse, inputs)
    return inner.astype(inputs.dtype), scale_share, bias_share


normalise_batch.defvjp(_forward, _backward)


def sum_over_batch(
    values: Float[Array, "batch *rest channels"], axis_name: str | None
) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
    """Sum each channel over this device's part of the batch, and over the whole batch.

    On a CPU the latter has the same bits on one device and on two: the two halves of the batch are
    summed apart, wherever they lie.

    Args:
        values: this device's part of the batch.
        axis_name: the mapped axis over whose devices the batch is spread, or None.
    """
    halves = 2 if _devices(axis_name) == 1 and len(values) % 2 == 0 else 1
    share = lax.platform_dependent(values, cpu=partial(_sum_of_parts, halves), default=_sum)
    return share, share if axis_name is None else lax.psum(share, axis_name)


def _sum(values: Array) -> Array:
    return values.sum(tuple(range(values.ndim - 1)))


def _sum_of_parts(parts: int, values: Array) -> Array:
    """Add up products with ones: XLA orders a plain sum by what stands around it, a product not."""
    rows = values.reshape(parts, -1, values.shape[-1])
    ones = jnp.ones((parts, 1, rows.shape[1]), values.dtype)
    return lax.batch_matmul(ones, rows).sum((0, 1))


def _count(inputs: Array, axis_name: str | None) -> int:
    """Number of values per channel in the whole batch."""
    return inputs.size // inputs.shape[-1] * _devices(axis_name)


def _devices(axis_name: str | None) -> int:
    return 1 if axis_name is None else lax.axis_size(axis_name)


def _per_channel(channels: Array, like: Array) -> Array:
    return channels.reshape((1,) * (like.ndim - 1) + channels.shape)
