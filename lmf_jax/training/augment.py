"""Random augmentation on the device, inside the train step.

Called with the same key, an augmentation transforms the labels of the pixels (as an image with one
channel) like the image. Every draw depends on the key of the step and the position in the global
batch, so the images do not depend on the number of devices.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Shaped


def shift(
    key: Key[Array, ""], image: Shaped[Array, "*space channels"]
) -> Shaped[Array, "*space channels"]:
    """Shift one image or volume along each axis by up to 1/8 of its side, repeating its edge."""
    reach = [side // 8 for side in image.shape[:-1]]
    padded = jnp.pad(image, [*((r, r) for r in reach), (0, 0)], mode="edge")
    starts = [
        jax.random.randint(k, (), 0, 2 * r + 1)
        for k, r in zip(jax.random.split(key, len(reach)), reach, strict=True)
    ]
    return jax.lax.dynamic_slice(padded, (*starts, jnp.zeros_like(starts[0])), image.shape)


def flip(
    key: Key[Array, ""], image: Shaped[Array, "*space width channels"]
) -> Shaped[Array, "*space width channels"]:
    """Mirror one image or volume left to right with probability 1/2."""
    return jnp.where(jax.random.bernoulli(key), jnp.flip(image, -2), image)


def dihedral(
    key: Key[Array, ""], image: Shaped[Array, "side side channels"]
) -> Shaped[Array, "side side channels"]:
    """Apply one of the eight symmetries of a square, all equally likely, to one image."""
    transposed, upside_down, mirrored = jax.random.bernoulli(key, shape=(3,))
    image = jnp.where(transposed, image.swapaxes(0, 1), image)
    image = jnp.where(upside_down, image[::-1], image)
    return jnp.where(mirrored, image[:, ::-1], image)


def mirror(
    key: Key[Array, ""], image: Shaped[Array, "*space channels"]
) -> Shaped[Array, "*space channels"]:
    """Mirror one image or volume along each axis with probability 1/2."""
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
    """Apply an augmentation, given by name, to each image with its own key."""
    augmentation = AUGMENTATIONS[name]
    return images if augmentation is None else jax.vmap(augmentation)(keys, images)


def augment_pairs(
    name: Augmentation,
    keys: Key[Array, " batch"],
    pairs: Shaped[Array, "batch height two_width channels"],
) -> Shaped[Array, "batch height two_width channels"]:
    """Augment both images of each pair, which are side by side, independently."""
    side_keys = jax.vmap(jax.random.split)(keys)
    sides = [
        augment_images(name, side_keys[:, side], images)
        for side, images in enumerate(jnp.split(pairs, 2, axis=2))
    ]
    return jnp.concatenate(sides, axis=2)


def mixup(
    key: Key[Array, ""],
    images: Float[Array, "batch *space channels"],
    partners: Float[Array, "batch *space channels"],
    strength: float,
) -> tuple[Float[Array, "batch *space channels"], Float[Array, ""]]:
    """Return a blend of images with their partners, and the coefficient of the images' labels.

    Args:
        key: The same on all devices: one coefficient for the whole batch.
        images: ``[B, *space, channels]``.
        partners: ``[B, *space, channels]``.
        strength: The coefficient is drawn from Beta(strength, strength).

    Reference:
        Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018.
    """
    lam = jax.random.beta(key, strength, strength).astype(images.dtype)
    return lam * images + (1 - lam) * partners, lam


def cutmix(
    key: Key[Array, ""],
    images: Float[Array, "batch h w channels"],
    partners: Float[Array, "batch h w channels"],
    strength: float,
) -> tuple[Float[Array, "batch h w channels"], Float[Array, ""]]:
    """Return images with one box of their partners pasted in, and the fraction left of the images.

    Args:
        key: The same on all devices: one box for the whole batch.
        images: ``[B, H, W, channels]``.
        partners: ``[B, H, W, channels]``.
        strength: The fraction that the box leaves is drawn from Beta(strength, strength); a box
            clipped at the border leaves more.

    Reference:
        Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
        Features, ICCV 2019.
    """
    _, height, width, _ = images.shape
    lam_key, row_key, column_key = jax.random.split(key, 3)
    side = jnp.sqrt(1 - jax.random.beta(lam_key, strength, strength))
    rows = _random_interval(row_key, height, side)
    columns = _random_interval(column_key, width, side)
    box = rows[:, None] & columns[None, :]
    lam = 1 - jnp.mean(box.astype(images.dtype))
    return jnp.where(box[None, :, :, None], partners, images), lam


def _random_interval(key: Key[Array, ""], length: int, side: Float[Array, ""]) -> Array:
    """Return a mask of the pixels within ``side * length / 2`` of a random center."""
    center = jax.random.randint(key, (), 0, length)
    radius = (side * length / 2).astype(center.dtype)
    pixels = jnp.arange(length, dtype=center.dtype)
    return (pixels >= center - radius) & (pixels < center + radius)


def roll_global_batch(
    values: Float[Array, "batch ..."] | Int[Array, "batch ..."], axis_name: str
) -> Float[Array, "batch ..."] | Int[Array, "batch ..."]:
    """Roll the global batch by one: each example is replaced by its predecessor.

    The last example of a device moves to the next device; a roll within each device would make the
    pairs depend on the number of devices.
    """
    count = jax.lax.axis_size(axis_name)
    ring = [(device, (device + 1) % count) for device in range(count)]
    from_previous = jax.lax.ppermute(values[-1:], axis_name, ring)
    return jnp.concatenate([from_previous, values[:-1]])
