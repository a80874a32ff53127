"""Grad-CAM: the image regions that a classifier's score depends on, and their overlap with a mask.

The heat of a class is the last feature map of the backbone, its channels weighted by their
gradient of the class score. It has the resolution of that map (7x7 for images of 224 pixels). Of a
volume, the axial slice with the most heat is shown.
"""

from collections.abc import Callable
from functools import partial
from math import isqrt
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, PyTree

from lmf_jax.models.classifier import Classifier
from lmf_jax.models.layers import parameter_dtype


@partial(jax.jit, static_argnums=0)
def grad_cam(
    model: Classifier,
    variables: PyTree,
    images: Float[Array, "batch *space channels"],
    class_ids: Int[Array, " batch"],
    metadata: Float[Array, "batch columns"] | None = None,
) -> Float[Array, "batch ..."]:
    """Compute the heat of one class in each image, on the last map of the backbone.

    With the maps ``A_k`` and the class's logit ``y_c``::

        alpha_k = mean over the map of d y_c / d A_k        (Eq. 1)
        heat = ReLU(sum over k of alpha_k A_k)              (Eq. 2)

    The function is compiled once per model and batch shape. The gradient passes through the head
    only, so it costs little more than a prediction. The model is in evaluation mode: the heat of an
    image does not depend on the rest of the batch.

    Args:
        model: Any classifier of this package.
        variables: Its ``{"params", "batch_stats"}``.
        images: Normalized images or volumes ``[batch, *space, channels]``.
        class_ids: The class to explain in each image.
        metadata: Encoded metadata of the images, if the model has a branch for them.

    Returns:
        Nonnegative heat ``[batch, *map_space]``, in logits; float32, or float64 if the
        model computes in float64. It is zero if nothing in the image supports the class, and NaN
        for an invalid class id, since a compiled function cannot raise.

    Source: Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based
    localization", 2017, arXiv 1610.02391, Eq. 1 and 2.
    """
    apply: Callable[..., Any] = partial(model.apply, variables)
    maps = apply(images, method=Classifier.features)
    maps = maps.astype(parameter_dtype(maps.dtype))
    classify = partial(apply, metadata=metadata, method=Classifier.classify)
    logits, backwards = jax.vjp(classify, maps)
    # The logits of an image depend only on its map: one backward pass serves the whole batch.
    class_range = jnp.arange(logits.shape[-1], dtype=class_ids.dtype)
    is_class = class_range[None] == class_ids[:, None]
    (gradients,) = backwards(is_class.astype(logits.dtype))
    space = tuple(range(1, maps.ndim - 1))
    weights = gradients.mean(space)
    heat = jnp.einsum("b...k,bk->b...", maps, weights, precision=jax.lax.Precision.HIGHEST)
    is_valid = jnp.expand_dims(is_class.any(1), space)
    return jnp.where(is_valid, jax.nn.relu(heat), jnp.nan)


def resize_heat(heat: Float[ArrayLike, "batch ..."], *sides: int) -> Float[Array, "batch *space"]:
    """Resize heat linearly to the size of the images, and divide it by the maximum of each image.

    Args:
        heat: Output of :func:`grad_cam`.
        *sides: Height and width of the images in pixels; of volumes, depth, height and width.

    Returns:
        Heat in [0, 1], ``[batch, *sides]``; all-zero heat stays zero.
    """
    heat = jnp.asarray(heat)
    enlarged = jax.image.resize(heat, (len(heat), *sides), "linear")
    largest = enlarged.max(tuple(range(1, heat.ndim)), keepdims=True)
    return enlarged / jnp.where(largest == 0, 1, largest)


def hottest_slices(
    heat: Float[ArrayLike, "batch map_depth map_height map_width"], depth: int
) -> tuple[Int[Array, " batch"], Float[Array, "batch map_height map_width"]]:
    """Return the axial slice of each volume with the largest sum of the heat, and its heat.

    Args:
        heat: Output of :func:`grad_cam` for volumes.
        depth: Slices of the volumes.
    """
    heat = jnp.asarray(heat)
    slices = jax.image.resize(heat, (len(heat), depth, *heat.shape[2:]), "linear")
    hottest = slices.sum((2, 3)).argmax(1)
    return hottest, jax.vmap(lambda of_volume, index: of_volume[index])(slices, hottest)


def energy_inside(
    heat: Float[ArrayLike, "batch height width"], mask: Bool[ArrayLike, "batch height width"]
) -> Float[Array, " batch"]:
    """Compute the fraction of the heat inside a mask.

    For uniform heat, it is the fraction of the image that the mask covers.

    Args:
        heat: Nonnegative heat ``[batch, height, width]``, in the size of the mask.
        mask: True inside the region of interest, such as a lesion.

    Returns:
        Fractions in [0, 1], ``[batch]``; NaN if the mask is empty or the heat is zero everywhere.

    Raises:
        ValueError: If the shapes differ.

    Source: the energy-based pointing game of Wang et al., "Score-CAM", 2020, arXiv 1910.01279.
    """
    heat, mask = _same_shape(heat, mask)
    inside = jnp.where(mask, heat, 0).sum((1, 2))
    total = heat.sum((1, 2))
    # All-zero heat gives 0 / 0 = NaN.
    return jnp.where(mask.any((1, 2)), inside / total, jnp.nan)


class PointingGame(NamedTuple):
    """Results of the pointing game for each image ``[batch]``, in [0, 1]."""

    hit: Float[Array, " batch"]
    """1 if the maximum of the heat lies in the mask, else 0; fractional if maxima are tied."""
    chance: Float[Array, " batch"]
    """Expected score of a random pixel: the fraction of the image that the mask covers."""


def pointing_game(
    heat: Float[ArrayLike, "batch height width"],
    mask: Bool[ArrayLike, "batch height width"],
    *,
    tolerance: int = 0,
) -> PointingGame:
    """Check whether the maximum of the heat lies inside a mask.

    Resized heat has flat borders of half a cell, and thus often several equal maxima. The hit is
    the fraction of them inside the mask; using the first one would favor upper left corners.

    Args:
        heat: Nonnegative heat ``[batch, height, width]``, in the size of the mask.
        mask: True inside the region of interest, such as a lesion.
        tolerance: Distance in pixels from the mask that still counts as a hit. Zhang et al. allow
            15 in photographs about 500 pixels wide. It also raises the chance level.

    Returns:
        Hit and chance level of each image. Both are NaN if the mask is empty, and the hit is NaN if
        the heat is zero everywhere.

    Raises:
        ValueError: If the shapes differ or the tolerance is negative.

    Source: Zhang et al., "Top-down neural attention by excitation backprop", 2016, arXiv
    1608.00507.
    """
    heat, mask = _same_shape(heat, mask)
    if tolerance < 0:
        raise ValueError(f"tolerance is {tolerance}; expected at least 0 pixels.")
    reached = _grown(mask, tolerance)
    largest = heat.max((1, 2), keepdims=True)
    at_maximum = heat == largest
    hit = (at_maximum & reached).sum((1, 2)) / at_maximum.sum((1, 2))
    has_mask, has_heat = mask.any((1, 2)), largest[:, 0, 0] > 0
    return PointingGame(
        hit=jnp.where(has_mask & has_heat, hit, jnp.nan),
        chance=jnp.where(has_mask, reached.mean((1, 2)), jnp.nan),
    )


def _grown(
    mask: Bool[Array, "batch height width"], radius: int
) -> Bool[Array, "batch height width"]:
    """Dilate a mask by a disk, row by row of the disk."""
    height, width = mask.shape[1:]
    grown = jnp.zeros_like(mask)
    for dy in range(-radius, radius + 1):
        dx = isqrt(radius**2 - dy**2)
        padded = jnp.pad(mask, ((0, 0), (radius, radius), (dx, dx)))
        rows = padded[:, radius + dy : radius + dy + height]
        # A running sum finds the pixels within dx of the mask in their row.
        before = jnp.pad(jnp.cumsum(rows, axis=2), ((0, 0), (0, 0), (1, 0)))
        grown |= before[:, :, 2 * dx + 1 :] > before[:, :, :width]
    return grown


def _same_shape(
    heat: Float[ArrayLike, "..."], mask: Bool[ArrayLike, "..."]
) -> tuple[Float[Array, "batch height width"], Bool[Array, "batch height width"]]:
    heat, mask = jnp.asarray(heat), jnp.asarray(mask)
    if heat.shape != mask.shape:
        raise ValueError(
            f"heat has shape {heat.shape} and mask {mask.shape}; expected the same, so resize one."
        )
    return heat, mask
