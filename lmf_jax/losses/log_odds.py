r"""The log odds against a label, and the lift of a loss from one example to a batch.

Every classification loss is a function of one number per example, the log odds against its label
``y``,

.. math:: d = \log \sum_{j \ne y} e^{z_j} - z_y ,

because :math:`p_y = \sigma(-d)`: cross entropy is :math:`\mathrm{softplus}(d)` and
:math:`\log(1 - p_y)` is :math:`-\mathrm{softplus}(-d)`. Both keep all their digits where
:math:`p_y` rounds to 0 or 1, and so do their gradients and Hessians.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer


@jax.custom_jvp
def log_odds_against(
    logits: Float[Array, " classes"], label: Integer[Array, ""], scale: ArrayLike = 1
) -> Float[Array, ""]:
    """Return d of the logits times ``scale``.

    The scale is an argument and the derivative is written by hand, so that several scales of the
    same logits share everything but the exponentials, and the derivative reuses these.
    """
    return _log_odds_and_softmax(logits, label, scale)[0]


@partial(log_odds_against.defjvp, symbolic_zeros=True)
def _log_odds_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    logits, label, scale = primals
    log_odds, softmax = _log_odds_and_softmax(logits, label, scale)
    by_logits = jnp.where(jnp.arange(len(logits), dtype=label.dtype) == label, -1, softmax)
    along = jnp.zeros_like(logits)
    for tangent, factor in ((tangents[0], scale), (tangents[2], logits)):
        if not isinstance(tangent, SymbolicZero):
            along += tangent * factor
    return log_odds, jnp.sum(by_logits * along)


def _log_odds_and_softmax(
    logits: Float[Array, " classes"], label: Integer[Array, ""], scale: ArrayLike
) -> tuple[Float[Array, ""], Float[Array, " classes"]]:
    """Return d, and the softmax over the other classes with 0 at the label."""
    others = jnp.where(jnp.arange(len(logits), dtype=label.dtype) == label, -jnp.inf, logits)
    largest = jax.lax.stop_gradient(jnp.max(others))
    largest = jnp.where(jnp.isfinite(largest), largest, 0)
    powers = jnp.exp(scale * (others - largest))
    total = jax.lax.platform_dependent(powers, cpu=_sum_by_product, default=jnp.sum)
    return jnp.log(total) + scale * (largest - logits[label]), powers / total


def _sum_by_product(values: Array) -> Array:
    # On a CPU, XLA's product with ones takes half as long as its sum over the last axis.
    return jnp.dot(values, jnp.ones_like(values))


@partial(jax.jit, static_argnums=0)
def map_examples(
    example_loss: Callable[..., Array],
    logits: Float[Array, "*batch classes"],
    labels: Integer[Array, "*batch"],
    where: Bool[Array, "*batch"] | None,
    *parameters: ArrayLike,
) -> Float[Array, "*batch"]:
    """Apply ``example_loss(logits [C], label [], *parameters)`` to every example of a batch.

    One program is compiled for each loss and shape.

    Args:
        example_loss: The loss of one example, a scalar.
        logits: ``[..., C]``.
        labels: Class ids ``[...]``; a label outside ``[0, C)`` gives NaN.
        where: Mask ``[...]``; a masked example gives 0 with gradient 0.
        parameters: Further arguments of the loss, the same for all examples.
    """
    if where is not None:
        # Mask before the loss, so that a masked NaN reaches neither the value nor the gradient.
        logits = jnp.where(where[..., None], logits, 0)
        labels = jnp.where(where, labels, 0)
    num_classes = logits.shape[-1]
    one = partial(_example, example_loss, parameters)
    values = jnp.vectorize(one, signature="(c),()->()")(logits, labels)
    # jit cannot raise, and JAX would clip an invalid label to a valid one.
    values = jnp.where((labels >= 0) & (labels < num_classes), values, jnp.nan)
    return values if where is None else jnp.where(where, values, 0)


def _example(
    example_loss: Callable[..., Array], parameters: tuple, logits: Array, label: Array
) -> Array:
    return example_loss(logits, label, *(jnp.asarray(p, logits.dtype) for p in parameters))
