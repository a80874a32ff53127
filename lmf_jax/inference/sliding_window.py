"""Sliding-window segmentation of volumes larger than the training patches.

Overlapping windows of the patch size cover the volume. The probabilities of a voxel are averaged
over its windows, weighted less near their edges, where the model sees little context (Isensee et
al. 2021, nnU-Net, doi:10.1038/s41592-020-01008-z).

NumPy sums on the host: cases differ in shape, and a sum on the device would be compiled for each.
Only the step on a batch of windows is compiled, and a volume does not have to fit onto the device.
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
    """Return the first voxels of the windows that cover a volume.

    Along each axis the windows are evenly spaced, as few as have at least the given overlap, up to
    rounding to whole voxels.

    Args:
        shape: Shape of the image or volume, at least ``patch_size`` along each axis.
        patch_size: Size of a window along each axis.
        overlap: Overlap of neighboring windows as a fraction of the window, in [0, 1).

    Raises:
        ValueError: If a window is larger than the volume, or the overlap is not in [0, 1).
    """
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap is {overlap}; expected a fraction in [0, 1).")
    if len(shape) != len(patch_size) or any(
        not 0 < size <= length for length, size in zip(shape, patch_size, strict=True)
    ):
        raise ValueError(
            f"A window of {tuple(patch_size)} does not fit into {tuple(shape)}; expected a size "
            "from 1 to the length of each axis."
        )
    axes = []
    for length, size in zip(shape, patch_size, strict=True):
        # Exact fractions: 100 * (1 - 0.9) is below 10 in floats, and one window more would follow.
        stride = max(size * (1 - Fraction(str(overlap))), Fraction(1))
        steps = math.ceil((length - size) / stride)
        axes.append(np.rint(np.linspace(0, length - size, steps + 1)).astype(int))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


def gaussian_weights(patch_size: Sequence[int]) -> Float[np.ndarray, "..."]:
    """Return the weight of each voxel of a window, float32 ``[*patch]``.

    The weights are a Gaussian with a standard deviation of an eighth of the side, as in nnU-Net,
    scaled to a maximum of 1. They are never 0: a corner of the volume lies in one window only.

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
    padding: float | Sequence[float] = 0.0,
) -> Float[np.ndarray, "*space {num_classes}"]:
    """Compute the class probabilities of every voxel of an image or volume.

    It needs the memory of the result, and of a padded copy of a volume smaller than a patch.

    Args:
        predict: A function from windows ``[b, *patch, M]``, a NumPy array of the type of the
            volume, to logits ``[b, *patch, C]``. The number of windows is always the same, so it
            compiles once; it may shard them over devices.
        volume: ``[H, W, M]`` or ``[D, H, W, M]``; padded on both sides if smaller than a patch.
        patch_size: Size of a window along each spatial axis.
        num_classes: Number of classes ``C``.
        batch_size: Number of windows per call of ``predict``, ``b``.
        overlap: Overlap of neighboring windows as a fraction of the window, in [0, 1).
        padding: Value of the padding; one for each modality if they differ.

    Returns:
        Weighted means of the softmax over the windows, float32 ``[*space, C]``.

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
    total /= total.sum(axis=-1, keepdims=True)  # the sum over classes is the sum of the weights
    return total


def segment_volume(
    predict: Predict,
    volume: Shaped[np.ndarray, "*space modalities"],
    *,
    patch_size: Sequence[int],
    num_classes: int,
    batch_size: int,
    overlap: float = 0.5,
    padding: float | Sequence[float] = 0.0,
) -> UInt8[np.ndarray, "*space"]:
    """Return the most probable class of every voxel, uint8 ``[*space]``.

    Arguments and exceptions are those of :func:`volume_probabilities`.
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
    padding: float | Sequence[float],
) -> tuple[Float[np.ndarray, "..."], tuple[slice, ...]]:
    """Return weighted probabilities summed over the windows, and the slices of the volume."""
    space = volume.shape[:-1]
    if len(space) != len(patch_size) or min(patch_size) < 1 or batch_size < 1:
        raise ValueError(
            f"A volume of shape {volume.shape} cannot be cut into batches of {batch_size} patches "
            f"of {tuple(patch_size)}; expected a positive size for each spatial axis and a "
            "positive batch size."
        )
    missing = [max(size - length, 0) for length, size in zip(space, patch_size, strict=True)]
    before = [width // 2 for width in missing]
    inside = tuple(slice(b, b + length) for b, length in zip(before, space, strict=True))
    if any(missing):
        padded = [length + width for length, width in zip(space, missing, strict=True)]
        whole = np.full((*padded, volume.shape[-1]), padding, volume.dtype)
        whole[inside] = volume
        volume = whole
    weights = gaussian_weights(patch_size)
    total = np.zeros((*volume.shape[:-1], num_classes), np.float32)
    starts = window_starts(volume.shape[:-1], patch_size, overlap)
    # The device computes a batch while the host adds the one before.
    pending: tuple[np.ndarray, Array] | None = None
    for batch_starts, windows in _batches(volume, starts, patch_size, batch_size):
        logits = predict(windows)
        if logits.shape != (batch_size, *patch_size, num_classes):
            raise ValueError(
                f"The logits of {windows.shape} have shape {logits.shape}; expected "
                f"{(batch_size, *patch_size, num_classes)}."
            )
        weighted = _weighted_probabilities(logits, weights)
        if pending is not None:
            _add(total, *pending, patch_size)
        pending = batch_starts, weighted
    if pending is not None:
        _add(total, *pending, patch_size)
    return total, inside


def _batches(
    volume: np.ndarray,
    starts: Int[np.ndarray, "windows axes"],
    patch_size: Sequence[int],
    size: int,
) -> Iterator[tuple[Int[np.ndarray, "windows axes"], np.ndarray]]:
    """Yield starts and windows; the last window is repeated to fill the last batch."""
    for first in range(0, len(starts), size):
        batch_starts = starts[first : first + size]
        windows = np.stack([volume[_window(start, patch_size)] for start in batch_starts])
        missing = size - len(batch_starts)
        if missing:
            windows = np.concatenate([windows, np.repeat(windows[-1:], missing, axis=0)])
        yield batch_starts, windows


def _window(start: Int[np.ndarray, " axes"], patch_size: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(s, s + size) for s, size in zip(start, patch_size, strict=True))


@jax.jit
def _weighted_probabilities(
    logits: Float[Array | np.ndarray, "batch ..."], weights: Float[Array, "..."]
) -> Float[Array, "batch ..."]:
    return weights[None, ..., None] * jax.nn.softmax(logits.astype(jnp.float32), axis=-1)


def _add(
    total: Float[np.ndarray, "..."],
    starts: Int[np.ndarray, "windows axes"],
    weighted: Float[Array, "batch ..."],
    patch_size: Sequence[int],
) -> None:
    windows = np.asarray(weighted)[: len(starts)]  # without the repeated windows
    if not np.isfinite(windows).all():
        raise UserError("The logits of the model are not finite; its training diverged.")
    for start, window in zip(starts, windows, strict=True):
        total[_window(start, patch_size)] += window
