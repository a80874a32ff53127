"""Which training images come next: every one once an epoch, or the rare classes more often."""

from typing import Literal

import grain
import numpy as np
from jaxtyping import Float64, Int

from lmf_jax.losses.class_weights import effective_number_weights

Sampling = Literal["uniform", "class-balanced", "effective-number"]


def positions(
    labels: Int[np.ndarray, " m"],
    sampling: Sampling,
    *,
    batch_size: int,
    seed: int,
    effective_number_beta: float = 0.9999,
) -> grain.MapDataset:
    """Return the endless order of training images, as global batches of positions.

    "uniform" goes through all images in an order that is new for every pass; batches are cut from
    the stream of all passes. The other two draw every image of a batch at random, with replacement:
    "class-balanced" so that all classes are equally likely, "effective-number" so that an image of
    a class with n images has weight (1 - b) / (1 - b**n), as in Cui et al. 2019.

    Args:
        labels: Class of every training image, [m].
        sampling: One of the three.
        batch_size: Global batch size.
        seed: Decides the order; any whole number from 0.
        effective_number_beta: The b of "effective-number", in [0, 1).

    Returns:
        Element i is global batch i: positions in [0, m), int [batch_size].
    """
    if sampling == "uniform":
        everything = grain.MapDataset.range(len(labels)).seed(seed).shuffle().repeat()
        return everything.batch(batch_size, batch_fn=np.array)  # faster than Grain's own
    beta = effective_number_beta if sampling == "effective-number" else None
    shares = np.cumsum(_image_weights(labels, beta))

    def draw(number: int) -> Int[np.ndarray, " batch"]:
        # Raw output stays the same in all versions of NumPy; its 53 upper bits make a fraction.
        raw = np.random.PCG64([seed, number]).random_raw(batch_size)
        fractions = (raw >> np.uint64(11)) * 2.0**-53
        return np.searchsorted(shares, fractions * shares[-1], side="right")

    return grain.MapDataset.range(1).repeat().map_with_index(lambda number, _: draw(number))


def _image_weights(
    labels: Int[np.ndarray, " m"], effective_number_beta: float | None
) -> Float64[np.ndarray, " m"]:
    """Return the weight of every image; without a beta, every class has 1 in all."""
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if effective_number_beta is None or len(counts) < 2:
        return 1.0 / counts[classes]
    weights = effective_number_weights(counts, effective_number_beta=effective_number_beta)
    return np.asarray(weights, np.float64)[classes]
