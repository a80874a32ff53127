"""Grad-CAM: where in an image a classifier finds its reasons, and whether a mask covers them.

The heat of a class is the last map of the backbone, its channels weighted by how much each of them
raises the score of the class. It is as coarse as that map (7x7 for images of 224 pixels): it shows
a region, no outline.
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
    images: Float[Array, "batch height width 3"],
    class_ids: Int[Array, " batch"],
) -> Float[Array, "batch map_height map_width"]:
    """Compute the heat of one class in each image, on the last map of the backbone.

    With the maps ``A_k`` and the class's logit ``y_c``::

        alpha_k = mean over the map of d y_c / d A_k        (Eq. 1)
        heat = ReLU(sum over k of alpha_k A_k)              (Eq. 2)

    One compiled call per model and shape of the batch; the gradient goes back through the head
    alone, so it costs little more than a prediction. The model is in evaluation mode: an image's
    heat does not depend on the others of the batch.

    Args:
        model: Any classifier of this package.
        variables: Its ``{"params", "batch_stats"}``.
        images: ``[batch, height, width, 3]``, already normalised.
        class_ids: The class to explain in each image: the predicted one, the true one, any.

    Returns:
        Heat of at least 0 ``[batch, map_height, map_width]``, in logits; float32, or float64 if the
        model computes in float64. An image in which nothing speaks for the class has zeros. NaN
        where a class id is none of the model's, since a compiled function cannot raise.

    Source: Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based
    localization", 2017, arXiv 1610.02391, Eq. 1 and 2.
    """
    apply: Callable[..., Any] = partial(model.apply, variables)
    maps = apply(images, method=Classifier.features)
    maps = maps.astype(parameter_dtype(maps.dtype))
    logits, backwards = jax.vjp(partial(apply, method=Classifier.classify), maps)
    # An image's logits depend on its own map alone: one pass back serves the whole batch.
    class_range = jnp.arange(logits.shape[-1], dtype=class_ids.dtype)
    is_class = class_range[None] == class_ids[:, None]
    (gradients,) = backwards(is_class.astype(logits.dtype))
    weights = gradients.mean((1, 2))
    heat = jnp.einsum("bhwk,bk->bhw", maps, weights, precision=jax.lax.Precision.HIGHEST)
    return jnp.where(is_class.any(1)[:, None, None], jax.nn.relu(heat), jnp.nan)


def resize_heat(
    heat: Float[ArrayLike, "batch map_height map_width"], height: int, width: int
) -> Float[Array, "batch {height} {width}"]:
    """Enlarge heat to the size of the images, bilinearly, and scale each image's to [0, 1].

    Args:
        heat: From :func:`grad_cam`.
        height: Of the images, in pixels.
        width: Of the images, in pixels.

    Returns:
        Shares of the largest heat in the image, ``[batch, height, width]``; heat of zeros stays
        zero.
    """
    heat = jnp.asarray(heat)
    enlarged = jax.image.resize(heat, (len(heat), height, width), "bilinear")
    largest = enlarged.max((1, 2), keepdims=True)
    return enlarged / jnp.where(largest == 0, 1, largest)


def energy_inside(
    heat: Float[ArrayLike, "batch height width"], mask: Bool[ArrayLike, "batch height width"]
) -> Float[Array, " batch"]:
    """Compute the share of the heat that lies inside of a mask.

    Heat that is spread evenly gets the mask's share of the image.

    Args:
        heat: Of at least 0, ``[batch, height, width]``, in the size of the mask.
        mask: True inside of what the model should look at, such as a lesion.

    Returns:
        Shares in [0, 1], ``[batch]``; NaN where the mask is empty or the heat is zero everywhere.

    Raises:
        ValueError: If the shapes differ.

    Source: the energy-based pointing game of Wang et al., "Score-CAM", 2020, arXiv 1910.01279.
    """
    heat, mask = _same_shape(heat, mask)
    inside = jnp.where(mask, heat, 0).sum((1, 2))
    total = heat.sum((1, 2))
    # Zero over zero is the NaN of heat that is zero everywhere.
    return jnp.where(mask.any((1, 2)), inside / total, jnp.nan)


class PointingGame(NamedTuple):
    """The outcome of the pointing game for each image, ``[batch]``; shares in [0, 1]."""

    hit: Float[Array, " batch"]
    """1 where the maximum of the heat lies in the mask, 0 where it does not."""
    chance: Float[Array, " batch"]
    """What a pixel drawn at random would score: the mask's share of the image."""


def pointing_game(
    heat: Float[ArrayLike, "batch height width"],
    mask: Bool[ArrayLike, "batch height width"],
    *,
    tolerance: int = 0,
) -> PointingGame:
    """Ask whether the maximum of the heat lies inside of a mask.

    Enlarged heat has a flat edge of half a cell, and so often several equal maxima. Each counts by
    its share, as if one were drawn at random: the first one alone would favour upper left corners.

    Args:
        heat: Of at least 0, ``[batch, height, width]``, in the size of the mask.
        mask: True inside of what the model should look at, such as a lesion.
        tolerance: Distance in pixels from the mask that still is a hit. Zhang et al. allow 15 in
            photographs about 500 wide; it raises the chance level too, so 0 is the clearer game.

    Returns:
        Hit and chance level of each image. NaN where the mask is empty, and for the hit where the
        heat is zero everywhere.

    Raises:
        ValueError: If the shapes differ or the tolerance is negative.

    Source: Zhang et al., "Top-down neural attention by excitation backprop", 2016, arXiv
    1608.00507.
    """
    heat, mask = _same_shape(heat, mask)
    if tolerance < 0:
        raise ValueError(f"tolerance is {tolerance}; expected a number of pixels from 0.")
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
    """The pixels at most ``radius`` from one of the mask, row by row of the disk around a pixel."""
    height, width = mask.shape[1:]
    grown = jnp.zeros_like(mask)
    for dy in range(-radius, radius + 1):
        dx = isqrt(radius**2 - dy**2)
        padded = jnp.pad(mask, ((0, 0), (radius, radius), (dx, dx)))
        rows = padded[:, radius + dy : radius + dy + height]
        # Inside of a row, the pixels from dx before to dx after.
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
