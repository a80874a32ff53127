r"""Building blocks of the segmentation losses: the terms of one sample, and the lift to a batch.

Segmentation losses are called ``(logits [B, *space, C], labels [B, *space], ..., where=[B])`` and
return one value per sample, ``[B]``; the batch loss is the mean. Class 0 is the background. A pixel
of an image is called a voxel too.

As in :mod:`lmf_jax.losses.log_odds`, a voxel is described by the log odds against its label,
:math:`d = \log \sum_{j \ne y} e^{z_j} - z_y`, so that :math:`-\log p_y`, :math:`1 - p_y` and
:math:`\log(1 - p_y)` keep their digits where :math:`p_y` rounds to 0 or 1.

The losses of Yeung et al. are what their code computes. Their paper differs in the term that a
weight multiplies, in the exponents of the symmetric losses, and in summing over the classes where
the code takes the mean: ``form="paper"``.
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
    """The N voxels of one sample; classes first, because CPUs are slow on a short last axis."""

    labels: Integer[Array, " voxels"]
    is_label: Bool[Array, "classes voxels"]
    cross_entropy: Float[Array, " voxels"]
    """-log p of the label."""
    log_error: Float[Array, " voxels"]
    """log(1 - p) of the label."""
    errors: Float[Array, "classes voxels"]
    """Absolute error of the probability: 1 - p for the label, p for every other class."""


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
    """Return 1 - TI of every class, computed without a difference that would lose digits."""
    # Where is_label holds, an error is a false negative; elsewhere it is a false positive.
    weights = jnp.where(voxels.is_label, delta, 1 - delta)
    wrong = jnp.sum(weights * voxels.errors, axis=1)
    true_positives = jnp.sum(jnp.where(voxels.is_label, 1 - voxels.errors, 0), axis=1)
    return wrong / (true_positives + wrong + smooth)


def mean_overlap_loss(voxels: Voxels, overlap: Overlap) -> Float[Array, ""]:
    """Return the mean over the classes of ``(1 - TI)**exponent``."""
    complements = overlap_complements(voxels, overlap.delta, overlap.smooth)
    is_background = jnp.arange(len(complements)) == 0
    powers = jnp.where(is_background, *overlap.exponents)
    return jnp.mean(_power(complements, powers))


def mean_voxel_loss(voxels: Voxels, parameters: VoxelLoss) -> Float[Array, ""]:
    """Return the mean over the voxels of ``weight * (1 - p)**exponent * cross_entropy``."""
    values, is_background = voxels.cross_entropy, voxels.labels == 0
    if parameters.exponents is not None:
        # In log space: the power itself has an infinite derivative at 0 for an exponent below 1.
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
    """Apply ``sample_loss(voxels, *parameters)`` to each sample; jitted once per loss and shape."""
    if where is not None:
        # Mask before the loss, so that a masked NaN reaches neither the value nor the gradient.
        of_labels = where.reshape(-1, *[1] * (labels.ndim - 1))
        logits = jnp.where(of_labels[..., None], logits, 0)
        labels = jnp.where(of_labels, labels, 0)
    num_classes = logits.shape[-1]
    parameters = jax.tree.map(lambda number: jnp.asarray(number, logits.dtype), parameters)
    values = jax.vmap(lambda z, y: sample_loss(_voxels(z, y), *parameters))(logits, labels)
    # jit cannot raise, and JAX would clip an invalid label to a valid one.
    is_class = (labels >= 0) & (labels < num_classes)
    values = jnp.where(jnp.all(is_class, axis=range(1, labels.ndim)), values, jnp.nan)
    return values if where is None else jnp.where(where, values, 0)


def _voxels(logits: Float[Array, "*space classes"], labels: Integer[Array, "*space"]) -> Voxels:
    num_classes = logits.shape[-1]
    logits, labels = logits.reshape(-1, num_classes).T, labels.reshape(-1)
    is_label = labels[None] == jnp.arange(num_classes, dtype=labels.dtype)[:, None]
    if num_classes == 2:  # the other class alone makes up the sum, so no exponential is needed
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
    # An exponent below 1 has an infinite derivative at 0, where the derivatives of the
    # probabilities, and so the true product, are 0. Below the bound float32 would overflow.
    positive = complements > 1e-30
    powers = jnp.where(positive, complements, 1) ** exponents
    return jnp.where(positive, powers, jnp.where(exponents > 0, 0, 1))
