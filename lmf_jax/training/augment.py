"""Random changes to images, on the device, inside the train step.

A change that is called with the key of an image and the labels of its pixels, as one more channel,
does to them what it did to the image.

Every draw depends on the key of the step and the position in the global batch, never on the device,
so any number of devices sees the same images.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Shaped


def shift(
    key: Key[Array, ""], image: Shaped[Array, "h w channels"]
) -> Shaped[Array, "h w channels"]:
    """Move one image by up to 1/8 of its side, up or down and left or right; edges are repeated."""
    height, width, _ = image.shape
    reach = (height // 8, width // 8)
    padded = jnp.pad(image, [(reach[0],) * 2, (reach[1],) * 2, (0, 0)], mode="edge")
    top, left = (
        jax.random.randint(k, (), 0, 2 * r + 1)
        for k, r in zip(jax.random.split(key), reach, strict=True)
    )
    return jax.lax.dynamic_slice(padded, (top, left, jnp.zeros_like(top)), image.shape)


def flip(
    key: Key[Array, ""], image: Shaped[Array, "h w channels"]
) -> Shaped[Array, "h w channels"]:
    """Mirror one image left to right, in half of the draws."""
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def dihedral(
    key: Key[Array, ""], image: Shaped[Array, "side side channels"]
) -> Shaped[Array, "side side channels"]:
    """Turn one square image by quarters and mirror it: all eight ways are equally likely."""
    transposed, upside_down, mirrored = jax.random.bernoulli(key, shape=(3,))
    image = jnp.where(transposed, image.swapaxes(0, 1), image)
    image = jnp.where(upside_down, image[::-1], image)
    return jnp.where(mirrored, image[:, ::-1], image)


def mirror(
    key: Key[Array, ""], image: Shaped[Array, "*space channels"]
) -> Shaped[Array, "*space channels"]:
    """Mirror one image or volume along each of its axes, in half of the draws."""
    for axis, mirrored in enumerate(jax.random.bernoulli(key, shape=(image.ndim - 1,))):
        image = jnp.where(mirrored, jnp.flip(image, axis), image)
    return image


Augmentation = Literal["none", "shift", "flip", "dihedral", "mirror"]

AUGMENTATIONS: dict[Augmentation, Callable[[Array, Array], Array] | None] = {
    "none": None,
    "shift": shift,
    "flip": flip,
    "dihedral": dihedral,
    "mirror": mirror,
}


def augment_images(
    name: Augmentation,
    keys: Key[Array, " batch"],
    images: Shaped[Array, "batch *space channels"],
) -> Shaped[Array, "batch *space channels"]:
    """Apply the augmentation of this name to each image with the key of its position."""
    augmentation = AUGMENTATIONS[name]
    return images if augmentation is None else jax.vmap(augmentation)(keys, images)


def mixup(
    key: Key[Array, ""],
    images: Float[Array, "batch h w 3"],
    partners: Float[Array, "batch h w 3"],
    strength: float,
) -> tuple[Float[Array, "batch h w 3"], Float[Array, ""]]:
    """Blend images with their partners; return them and the share of the images' own labels.

    Args:
        key: The same on all devices: one share for the whole batch.
        images: ``[B, H, W, 3]``.
        partners: ``[B, H, W, 3]``.
        strength: The share is drawn from Beta(strength, strength).

    Reference:
        Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018.
    """
    share = jax.random.beta(key, strength, strength).astype(images.dtype)
    return share * images + (1 - share) * partners, share


def cutmix(
    key: Key[Array, ""],
    images: Float[Array, "batch h w 3"],
    partners: Float[Array, "batch h w 3"],
    strength: float,
) -> tuple[Float[Array, "batch h w 3"], Float[Array, ""]]:
    """Paste the same box of the partners into the images; return them and the uncovered share.

    Args:
        key: The same on all devices: one box for the whole batch.
        images: ``[B, H, W, 3]``.
        partners: ``[B, H, W, 3]``.
        strength: The share that the box leaves is drawn from Beta(strength, strength); a box cut
            by the border leaves more.

    Reference:
        Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
        Features, ICCV 2019.
    """
    _, height, width, _ = images.shape
    share_key, row_key, column_key = jax.random.split(key, 3)
    side = jnp.sqrt(1 - jax.random.beta(share_key, strength, strength))
    rows = _covered(row_key, height, side)
    columns = _covered(column_key, width, side)
    box = rows[:, None] & columns[None, :]
    share = 1 - jnp.mean(box.astype(images.dtype))
    return jnp.where(box[None, :, :, None], partners, images), share


def _covered(key: Key[Array, ""], length: int, side: Float[Array, ""]) -> Array:
    """Return which of ``length`` pixels lie within ``side * length / 2`` of a random one."""
    centre = jax.random.randint(key, (), 0, length)
    reach = (side * length / 2).astype(centre.dtype)
    pixels = jnp.arange(length, dtype=centre.dtype)
    return (pixels >= centre - reach) & (pixels < centre + reach)


def roll_global_batch(
    values: Float[Array, "batch ..."] | Int[Array, " batch"], axis_name: str
) -> Float[Array, "batch ..."] | Int[Array, " batch"]:
    """Return for each example its predecessor in the global batch; the first gets the last.

    One example crosses to the next device; a roll within each device would pair other examples on
    other numbers of devices.
    """
    count = jax.lax.axis_size(axis_name)
    ring = [(device, (device + 1) % count) for device in range(count)]
    from_previous = jax.lax.ppermute(values[-1:], axis_name, ring)
    return jnp.concatenate([from_previous, values[:-1]])
