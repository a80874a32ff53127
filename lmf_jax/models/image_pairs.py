"""Pairs of images side by side, such as both eyes of a patient, through one backbone."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def split_pairs(
    images: Float[Array, "batch height width channels"],
) -> tuple[Float[Array, "two_batch height half channels"], Bool[Array, " two_batch"]]:
    """Return the left and the right half of each image as a batch of images.

    A half without contrast holds no image. The mirrored other half takes its place, so that batch
    statistics are those of images alone; its features are to be masked.

    Args:
        images: ``[B, H, W, channels]`` with an even width.

    Returns:
        The halves, ``[2B, H, W / 2, channels]``, all left ones first, and whether each holds an
        image.

    Raises:
        ValueError: If the width is odd.
    """
    width = images.shape[2]
    if width % 2:
        raise ValueError(f"Images are {width} pixels wide; a pair has an even width.")
    left, right = images[:, :, : width // 2], images[:, :, width // 2 :]
    has_left, has_right = _has_contrast(left), _has_contrast(right)
    halves = jnp.concatenate(
        [
            jnp.where(has_left[:, None, None, None], left, right[:, :, ::-1]),
            jnp.where(has_right[:, None, None, None], right, left[:, :, ::-1]),
        ]
    )
    return halves, jnp.concatenate([has_left, has_right])


def _has_contrast(images: Float[Array, "batch height width channels"]) -> Bool[Array, " batch"]:
    """Return whether each image has pixels of different colors."""
    return (images != images[:, :1, :1]).any((1, 2, 3))


def join_maps(
    maps: Float[Array, "two_batch map_height map_half features"],
    has_image: Bool[Array, " two_batch"],
) -> Float[Array, "batch map_height map_width features"]:
    """Return the maps of both halves side by side, zero where a half holds no image.

    Args:
        maps: The last map of the backbone for the halves from :func:`split_pairs`.
        has_image: Whether each half holds an image.
    """
    masked = jnp.where(has_image[:, None, None, None], maps, jnp.zeros_like(maps))
    left, right = jnp.split(masked, 2)
    return jnp.concatenate([left, right], axis=2)


def pool_pairs(
    maps: Float[Array, "batch map_height map_width features"],
) -> Float[Array, "batch two_features"]:
    """Return the mean features of the left half followed by those of the right half.

    Args:
        maps: Maps from :func:`join_maps`.
    """
    halves = jnp.split(maps, 2, axis=2)
    return jnp.concatenate([half.mean((1, 2)) for half in halves], axis=1)
