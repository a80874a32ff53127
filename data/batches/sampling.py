"""Sampling of training images: each once per epoch, or rare classes more often."""

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

    "uniform" passes over all images in a different order each time; batches are taken from the
    stream of all passes. The others draw every image of a batch at random with replacement:
    "class-balanced" with equal probability of all classes, "effective-number" with weight
    (1 - b) / (1 - b**n) for an image of a class with n images, as in Cui et al. 2019.

    Args:
        labels: Class of every training image, [m].
        sampling: "uniform", "class-balanced" or "effective-number".
        batch_size: Global batch size.
        seed: Seed of the order; any whole number from 0.
        effective_number_beta: The b of "effective-number", in [0, 1).

    Returns:
        Element i is global batch i: positions in [0, m), int [batch_size].
    """
    if sampling == "uniform":
        passes = grain.MapDataset.range(len(labels)).seed(seed).shuffle().repeat()
        return passes.batch(batch_size, batch_fn=np.array)  # faster than Grain's default
    beta = effective_number_beta if sampling == "effective-number" else None
    cumulative = np.cumsum(_image_weights(labels, beta))

    def draw(number: int) -> Int[np.ndarray, " batch"]:
        # Raw output is the same in all versions of NumPy; its upper 53 bits make a fraction.
        raw = np.random.PCG64([seed, number]).random_raw(batch_size)
        fractions = (raw >> np.uint64(11)) * 2.0**-53
        return np.searchsorted(cumulative, fractions * cumulative[-1], side="right")

    return grain.MapDataset.range(1).repeat().map_with_index(lambda number, _: draw(number))


def _image_weights(
    labels: Int[np.ndarray, " m"], effective_number_beta: float | None
) -> Float64[np.ndarray, " m"]:
    """Return the weight of every image; without beta, the weights of each class sum to 1."""
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if effective_number_beta is None or len(counts) < 2:
        return 1.0 / counts[classes]
    weights = effective_number_weights(counts, effective_number_beta=effective_number_beta)
    return np.asarray(weights, np.float64)[classes]
