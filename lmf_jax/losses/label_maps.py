r"""What the losses of segmentation are made of: the voxels of one sample, and the way to a batch.

As in :mod:`lmf_jax.losses.log_odds`, a voxel is described by the log odds against its label,
:math:`d = \log \sum_{j \ne y} e^{z_j} - z_y`, so that :math:`-\log p_y`, :math:`1 - p_y` and
:math:`\log(1 - p_y)` keep their digits where :math:`p_y` rounds to 0 or 1. A pixel of an image is
called a voxel too.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from lmf_jax.losses.checks import Scalar
from lmf_jax.losses.softplus import softplus_both

PublishedForm = Literal["released", "paper"]
"""As the code of Yeung et al. computes a loss, or as their paper prints it."""

MIXED_FOCAL = "Yeung et al. 2021, arXiv 2102.04525v1"
UNIFIED_FOCAL = "Yeung et al. 2022, arXiv 2102.04525"


class PerClass(NamedTuple):
    """A number for the background, class 0, and one for every other class."""

    background: Scalar
    foreground: Scalar


class Voxels(NamedTuple):
    """The N voxels of one sample; classes first, as a CPU is slow on a short last axis."""

    labels: Integer[Array, " voxels"]
    is_label: Bool[Array, "classes voxels"]
    cross_entropy: Float[Array, " voxels"]
    """-log p of the label."""
    log_error: Float[Array, " voxels"]
    """log(1 - p) of the label."""
    errors: Float[Array, "classes voxels"]
    """Distance between p and the truth: 1 - p for the label, p for every other class."""


class Overlap(NamedTuple):
    """The mean over the classes of a power of 1 - TI, TI the Tversky index."""

    delta: Scalar
    smooth: Scalar
    exponents: PerClass


class VoxelLoss(NamedTuple):
    """The mean over the voxels of weighted cross entropy, times a power of 1 - p."""

    weights: PerClass | None = None
    exponents: PerClass | None = None
    class_weights: Float[Array, " classes"] | None = None


def overlap_complements(voxels: Voxels, delta: Scalar, smooth: Scalar) -> Float[Array, " classes"]:
    """Return 1 - TI of every class, without the loss of digits of the difference."""
    # is_label selects what is missed, the rest is what was found in vain.
    weights = jnp.where(voxels.is_label, delta, 1 - delta)
    wrong = jnp.sum(weights * voxels.errors, axis=1)
    found = jnp.sum(jnp.where(voxels.is_label, 1 - voxels.errors, 0), axis=1)
    return wrong / (found + wrong + smooth)


def mean_overlap_loss(voxels: Voxels, overlap: Overlap) -> Float[Array, ""]:
    """Return the mean over the classes of (1 - TI) to the power of the class."""
    complements = overlap_complements(voxels, overlap.delta, overlap.smooth)
    is_background = jnp.arange(len(complements)) == 0
    powers = jnp.where(is_background, *overlap.exponents)
    return jnp.mean(_power(complements, powers))


def mean_voxel_loss(voxels: Voxels, parameters: VoxelLoss) -> Float[Array, ""]:
    """Return the mean over the voxels of weight * (1 - p)**exponent * cross entropy."""
    values, is_background = voxels.cross_entropy, voxels.labels == 0
    if parameters.exponents is not None:
        # In log space: the power itself has no finite slope at 0 for an exponent below 1.
        values *= jnp.exp(jnp.where(is_background, *parameters.exponents) * voxels.log_error)
    if parameters.weights is not None:
        values *= jnp.where(is_background, *parameters.weights)
    if parameters.class_weights is not None:
        values *= jnp.sum(jnp.where(voxels.is_label, parameters.class_weights[:, None], 0), axis=0)
    return jnp.mean(values)


@partial(jax.jit, static_argnums=0)
def map_samples(
    sample_loss: Callable[..., Float[Array, ""]],
    logits: Float[Array, "batch *space classes"],
    labels: Integer[Array, "batch *space"],
    where: Bool[Array, " batch"] | None,
    *parameters: Any,
) -> Float[Array, " batch"]:
    """Apply ``sample_loss(voxels, *parameters)`` to all; one jitted program per loss and shape."""
    if where is not None:
        # Before the loss, so that a masked NaN reaches neither the value nor the gradient.
        of_labels = where.reshape(-1, *[1] * (labels.ndim - 1))
        logits = jnp.where(of_labels[..., None], logits, 0)
        labels = jnp.where(of_labels, labels, 0)
    num_classes = logits.shape[-1]
    parameters = jax.tree.map(lambda number: jnp.asarray(number, logits.dtype), parameters)
    values = jax.vmap(lambda z, y: sample_loss(_voxels(z, y), *parameters))(logits, labels)
    # No error can be raised inside jit, and a clipped label would be a wrong number.
    is_class = (labels >= 0) & (labels < num_classes)
    values = jnp.where(jnp.all(is_class, axis=range(1, labels.ndim)), values, jnp.nan)
    return values if where is None else jnp.where(where, values, 0)


def _voxels(logits: Float[Array, "*space classes"], labels: Integer[Array, "*space"]) -> Voxels:
    num_classes = logits.shape[-1]
    logits, labels = logits.reshape(-1, num_classes).T, labels.reshape(-1)
    is_label = labels[None] == jnp.arange(num_classes, dtype=labels.dtype)[:, None]
    if num_classes == 2:  # there is one other class, and no exponential is needed to find it
        log_odds = jnp.where(is_label[0], logits[1] - logits[0], logits[0] - logits[1])
        powers, total = jnp.ones_like(logits), jnp.ones_like(log_odds)
    else:
        others = jnp.where(is_label, -jnp.inf, logits)
        largest = jax.lax.stop_gradient(jnp.max(others, axis=0))
        powers = jnp.exp(others - largest[None])
        total = jnp.sum(powers, axis=0)
        log_odds = jnp.log(total) + largest - jnp.sum(jnp.where(is_label, logits, 0), axis=0)
    cross_entropy, minus_log_error = softplus_both(log_odds)
    error = jnp.exp(-minus_log_error)
    errors = jnp.where(is_label, error[None], powers * (error / total)[None])
    return Voxels(labels, is_label, cross_entropy, -minus_log_error, errors)


def _power(
    complements: Float[Array, " classes"], exponents: Float[Array, " classes"]
) -> Float[Array, " classes"]:
    # Below 1, the slope of a power is endless at 0, where the slopes of the probabilities are 0:
    # so is their product. The bound is where float32 cannot hold the slope any more.
    positive = complements > 1e-30
    powers = jnp.where(positive, complements, 1) ** exponents
    return jnp.where(positive, powers, jnp.where(exponents > 0, 0, 1))
