"""Instance normalization: each channel of each sample by its own mean and variance over space.

As for batch norm, the gradient is written by hand: it needs two sums over space, and fewer passes
over the maps than the automatic one. Samples are independent, so nothing crosses devices.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalize_instances(
    inputs: Float[Array, "batch *space channels"],
    scale: Float[Array, " channels"],
    bias: Float[Array, " channels"],
    epsilon: float,
) -> Float[Array, "batch *space channels"]:
    """Normalize each channel of each sample by its own mean and biased variance over space.

    The variance is computed in a second pass, as the mean squared distance from the mean: the
    one-pass form ``E[x^2] - E[x]^2`` loses its digits by cancellation in float32. For a constant
    map the output is the bias, with a finite gradient.

    Reverse mode and forward over reverse (``jax.grad``, ``jax.hessian``) work. ``jax.jvp`` alone
    does not, because the gradient is written by hand.

    Args:
        inputs: Maps of any dtype; the outputs have the same.
        scale: Factor of each channel; its dtype is also that of the statistics.
        bias: Offset of each channel.
        epsilon: Added to the variance before the square root.

    Source: Ulyanov et al., "Instance normalization", 2016, arXiv 1607.08022.
    """
    return _forward(inputs, scale, bias, epsilon)[0]


def _forward(inputs: Array, scale: Array, bias: Array, epsilon: float) -> tuple[Array, Any]:
    values = _flat(inputs, scale.dtype)
    mean = _mean(values)
    inverse = lax.rsqrt(_mean(jnp.square(values - mean)) + epsilon)
    outputs = (values - mean) * (inverse * scale[None, None]) + bias[None, None]
    return outputs.reshape(inputs.shape).astype(inputs.dtype), (inputs, mean, inverse, scale)


def _backward(epsilon: float, saved: Any, gradient: Array) -> tuple[Array, Array, Array]:
    inputs, mean, inverse, scale = saved
    grads = _flat(gradient, scale.dtype)
    values = (_flat(inputs, scale.dtype) - mean) * inverse
    mean_grad, mean_grad_times_value = _mean(grads), _mean(grads * values)
    grad_inputs = grads - mean_grad - values * mean_grad_times_value
    grad_inputs *= inverse * scale[None, None]
    count = grads.shape[1]
    return (
        grad_inputs.reshape(inputs.shape).astype(inputs.dtype),
        count * mean_grad_times_value.sum((0, 1)),
        count * mean_grad.sum((0, 1)),
    )


normalize_instances.defvjp(_forward, _backward)


def _flat(maps: Array, dtype: jnp.dtype) -> Float[Array, "batch values channels"]:
    return maps.reshape(maps.shape[0], -1, maps.shape[-1]).astype(dtype)


def _mean(values: Float[Array, "batch values channels"]) -> Float[Array, "batch 1 channels"]:
    return values.mean(1, keepdims=True)
