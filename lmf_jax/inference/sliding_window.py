"""Segmentation of images and volumes larger than the patches that a model was trained on.

Windows of the size of a patch are laid over the whole, half over each other, and what the model
says of a voxel is averaged over the windows that it lies in, with less weight near their edges,
where the model sees little of the surroundings (Isensee et al. 2021, nnU-Net,
doi:10.1038/s41592-020-01008-z).

The sums are kept by NumPy on the host. Cases differ in shape, and a sum on the device would be
compiled anew for each; so only steps of the fixed shape of a batch of windows are compiled, and a
whole volume never has to fit onto the device.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped, UInt8

from lmf_jax.errors import UserError

Predict = Callable[[Shaped[np.ndarray, "batch ..."]], Array | np.ndarray]
"""From windows ``[b, *patch, M]`` to logits ``[b, *patch, C]``."""


def window_starts(
    shape: Sequence[int], patch_size: Sequence[int], overlap: float = 0.5
) -> Int[np.ndarray, "windows axes"]:
    """Return where windows begin that together cover everything.

    Along each axis they lie at equal distances, as few as reach from the first place to the last
    and overlap by the share that is asked for, to a place, or more.

    Args:
        shape: Of the image or volume, at least ``patch_size`` along each axis.
        patch_size: Size of a window along each axis.
        overlap: Share of a window that the next one covers again, in [0, 1).

    Raises:
        ValueError: If a window is larger than the whole, or the overlap is not in [0, 1).
    """
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap is {overlap}; expected a share in [0, 1).")
    if len(shape) != len(patch_size) or any(
        not 0 < size <= whole for whole, size in zip(shape, patch_size, strict=True)
    ):
        raise ValueError(
            f"A window of {tuple(patch_size)} does not lie in {tuple(shape)}; expected a size for "
            "each axis, from 1 to the whole."
        )
    axes = []
    for whole, size in zip(shape, patch_size, strict=True):
        # In fractions: 100 * (1 - 0.9) is less than 10 in floats, which asks for one window more.
        stride = max(size * (1 - Fraction(str(overlap))), Fraction(1))
        steps = math.ceil((whole - size) / stride)
        axes.append(np.rint(np.linspace(0, whole - size, steps + 1)).astype(int))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


def gaussian_weights(patch_size: Sequence[int]) -> Float[np.ndarray, "..."]:
    """Return the weight of each place of a window, float32 ``[*patch]``.

    A Gaussian around the middle, whose standard deviation is an eighth of the side as in nnU-Net: 1
    in the middle and small near the edges, yet never 0, since a corner of the whole lies in one
    window alone.

    Args:
        patch_size: Size of a window along each axis.
    """
    sides = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 8)) ** 2) for n in patch_size]
    weights = reduce(np.multiply.outer, sides)
    return (weights / weights.max()).astype(np.float32)


def volume_probabilities(
    predict: Predict,
    volume: Shaped[np.ndarray, "*space modalities"],
    *,
    patch_size: Sequence[int],
    num_classes: int,
    batch_size: int,
    overlap: float = 0.5,
    padding: float = 0.0,
) -> Float[np.ndarray, "*space {num_classes}"]:
    """Compute the probability of each class at each place of an image or volume.

    It takes the memory of what is returned, and that of the volume again where it is smaller than a
    patch.

    Args:
        predict: From windows ``[b, *patch, M]``, a NumPy array of the type of the volume, to logits
            ``[b, *patch, C]``. It always gets as many windows, so it is compiled once for all
            cases; it may spread them over devices.
        volume: ``[H, W, M]`` or ``[D, H, W, M]``. One smaller than a patch is padded on both sides.
        patch_size: Size of a window along each axis of space.
        num_classes: Number of classes ``C``.
        batch_size: Windows that are predicted at a time, ``b``.
        overlap: Share of a window that the next one covers again, in [0, 1).
        padding: What a volume that is smaller than a patch is padded with.

    Returns:
        Means of the softmax over the windows, float32 ``[*space, C]``.

    Raises:
        ValueError: If sizes do not fit, or the logits have another shape.
        UserError: If a logit is not finite.
    """
    total, inside = _weighted_sums(
        predict,
        volume,
        patch_size=patch_size,
        num_classes=num_classes,
        batch_size=batch_size,
        overlap=overlap,
        padding=padding,
    )
    total = total[inside]
    total /= total.sum(axis=-1, keepdims=True)  # those of a window sum up to its weight
    return total


def segment_volume(
    predict: Predict,
    volume: Shaped[np.ndarray, "*space modalities"],
    *,
    patch_size: Sequence[int],
    num_classes: int,
    batch_size: int,
    overlap: float = 0.5,
    padding: float = 0.0,
) -> UInt8[np.ndarray, "*space"]:
    """Return the most probable class at each place of an image or volume.

    The arguments, and what is raised, are those of :func:`volume_probabilities`.

    Returns:
        Class ids, uint8 ``[*space]``; of equally probable classes the first.
    """
    if num_classes > 256:
        raise ValueError(f"There are {num_classes} classes; expected at most 256.")
    total, inside = _weighted_sums(
        predict,
        volume,
        patch_size=patch_size,
        num_classes=num_classes,
        batch_size=batch_size,
        overlap=overlap,
        padding=padding,
    )
    return total[inside].argmax(axis=-1).astype(np.uint8)


def _weighted_sums(
    predict: Predict,
    volume: Shaped[np.ndarray, "*space modalities"],
    *,
    patch_size: Sequence[int],
    num_classes: int,
    batch_size: int,
    overlap: float,
    padding: float,
) -> tuple[Float[np.ndarray, "..."], tuple[slice, ...]]:
    """Return the weighted probabilities, summed over the windows, and where the volume lies."""
    space = volume.shape[:-1]
    if len(space) != len(patch_size) or min(patch_size) < 1 or batch_size < 1:
        raise ValueError(
            f"A volume of shape {volume.shape} is cut into batches of {batch_size} patches of "
            f"{tuple(patch_size)}; expected a size for each axis of space and 1 or more a batch."
        )
    missing = [max(size - whole, 0) for whole, size in zip(space, patch_size, strict=True)]
    before = [width // 2 for width in missing]
    inside = tuple(slice(b, b + whole) for b, whole in zip(before, space, strict=True))
    if any(missing):
        widths = [(b, width - b) for b, width in zip(before, missing, strict=True)]
        volume = np.pad(volume, [*widths, (0, 0)], constant_values=padding)
    weights = gaussian_weights(patch_size)
    total = np.zeros((*volume.shape[:-1], num_classes), np.float32)
    starts = window_starts(volume.shape[:-1], patch_size, overlap)
    # One batch is on its way while the one before is added.
    waiting: tuple[np.ndarray, Array] | None = None
    for places, windows in _batches(volume, starts, patch_size, batch_size):
        logits = predict(windows)
        if logits.shape != (batch_size, *patch_size, num_classes):
            raise ValueError(
                f"The logits of {windows.shape} have shape {logits.shape}; expected "
                f"{(batch_size, *patch_size, num_classes)}."
            )
        shares = _weighted_probabilities(logits, weights)
        if waiting is not None:
            _add(total, *waiting, patch_size)
        waiting = places, shares
    if waiting is not None:
        _add(total, *waiting, patch_size)
    return total, inside


def _batches(
    volume: np.ndarray,
    starts: Int[np.ndarray, "windows axes"],
    patch_size: Sequence[int],
    size: int,
) -> Iterator[tuple[Int[np.ndarray, "windows axes"], np.ndarray]]:
    """Yield where windows begin and the windows, the last ones repeated to fill their batch."""
    for first in range(0, len(starts), size):
        places = starts[first : first + size]
        windows = np.stack([volume[_window(start, patch_size)] for start in places])
        lacking = size - len(places)
        if lacking:
            windows = np.concatenate([windows, np.repeat(windows[-1:], lacking, axis=0)])
        yield places, windows


def _window(start: Int[np.ndarray, " axes"], patch_size: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(s, s + size) for s, size in zip(start, patch_size, strict=True))


@jax.jit
def _weighted_probabilities(
    logits: Float[Array | np.ndarray, "batch ..."], weights: Float[Array, "..."]
) -> Float[Array, "batch ..."]:
    return weights[None, ..., None] * jax.nn.softmax(logits.astype(jnp.float32), axis=-1)


def _add(
    total: Float[np.ndarray, "..."],
    places: Int[np.ndarray, "windows axes"],
    shares: Float[Array, "batch ..."],
    patch_size: Sequence[int],
) -> None:
    values = np.asarray(shares)[: len(places)]  # the rest fills the batch
    if not np.isfinite(values).all():
        raise UserError("The model gives logits that are not finite; its run diverged.")
    for start, share in zip(places, values, strict=True):
        total[_window(start, patch_size)] += share
