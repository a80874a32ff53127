"""Sampling of training images: each once per epoch, or rare classes more often."""

from typing import Literal

import grain
import numpy as np
from jaxtyping import Bool, Float64, Int

from lmf_jax.losses.class_weights import effective_number_weights

Sampling = Literal["uniform", "class-balanced", "effective-number"]

Classes = Int[np.ndarray, " m"] | Int[np.ndarray, "m labels"]
"""Class of every image, or its label vector."""


def positions(
    labels: Classes,
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

    The weight of an image with several labels is the sum of those of its labels, and the images
    without a label are one more class: "class-balanced" draws a label, and then an image that has
    it (class-aware sampling, Shen et al., Relay Backpropagation, ECCV 2016).

    Args:
        labels: Class of every training image, [m], or its label vector, [m, labels].
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
    labels: Classes, effective_number_beta: float | None
) -> Float64[np.ndarray, " m"]:
    """Return the weight of every image; without beta, the weights of each class sum to 1."""
    if labels.ndim == 2:
        members = _members(labels)
        weights = _class_weights(members.sum(axis=0), effective_number_beta)
        return (members * weights).sum(axis=1)
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return _class_weights(counts, effective_number_beta)[classes]


def _class_weights(
    counts: Int[np.ndarray, " classes"], effective_number_beta: float | None
) -> Float64[np.ndarray, " classes"]:
    """Return the weight of an image of each class, of which none is empty."""
    if effective_number_beta is None or len(counts) < 2:
        return 1.0 / counts
    weights = effective_number_weights(counts, effective_number_beta=effective_number_beta)
    return np.asarray(weights, np.float64)


def _members(vectors: Int[np.ndarray, "m labels"]) -> Bool[np.ndarray, "m classes"]:
    """Return which images have each label that occurs, and, if there are any, which have none."""
    members = np.column_stack([vectors == 1, ~(vectors == 1).any(axis=1)])
    return members[:, members.any(axis=0)]
