"""Draws of the rates behind the bands of the curves of one class."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from lmf_jax.evaluation.posterior import OPTIMISTIC, PESSIMISTIC, Prior
from lmf_jax.evaluation.resampling import MAX_ELEMENTS, Groups, unit_codes

NUM_DRAWS = 1000
MAX_CUTS = 400
"""Maximum number of thresholds at which a band is drawn."""


class RateDraws(NamedTuple):
    """Draws of sensitivity and false-positive rate at decreasing thresholds."""

    sensitivity: Float[np.ndarray, "draws cuts"]
    false_positive_rate: Float[np.ndarray, "draws cuts"]


def fewer_thresholds(
    is_class: Bool[np.ndarray, " n"], probability: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " cuts"]:
    """Return decreasing thresholds: all probabilities, or quantiles of both groups of images."""
    values = np.unique(probability)
    if len(values) > MAX_CUTS:
        points = np.linspace(0, 1, MAX_CUTS // 2)
        of_both = [
            np.quantile(probability[members], points, method="nearest")
            for members in (is_class, ~is_class)
        ]
        values = np.unique(np.concatenate(of_both))
    return np.asarray(values[::-1], np.float64)


def draw_rates(
    is_class: Bool[np.ndarray, " n"],
    probability: Float[np.ndarray, " n"],
    thresholds: Float[np.ndarray, " cuts"],
    groups: Groups | None,
    seed: int,
) -> tuple[RateDraws, RateDraws]:
    """Draw sensitivity and false-positive rate at decreasing thresholds.

    Args:
        is_class: Whether each image is of the class ``[n]``.
        probability: Its probability of the class ``[n]``.
        thresholds: The thresholds, decreasing.
        groups: Lesion or patient of each image; None if all images are independent.
        seed: Seed of the draws.

    Returns:
        The draws for lower ends (:data:`PESSIMISTIC`) and for upper ends (:data:`OPTIMISTIC`).
    """
    unit_of = np.unique(unit_codes(len(is_class), groups), return_inverse=True)[1]
    # Number of thresholds that each image does not reach, which come first.
    place = np.searchsorted(-thresholds, -probability, side="left")
    rng = np.random.default_rng(seed)
    blocks = [
        _weights_by_place(weights, is_class, place, len(thresholds))
        for weights in _unit_weights(unit_of, rng)
    ]
    positives, negatives = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    positive_size, negative_size = (
        members.sum() / len(np.unique(unit_of[members])) for members in (is_class, ~is_class)
    )

    def with_prior(prior: Prior) -> RateDraws:
        found, missed = _add_prior(positives, prior.right, prior.wrong, positive_size, rng)
        alarmed, rejected = _add_prior(negatives, prior.wrong, prior.right, negative_size, rng)
        return RateDraws(found / (found + missed), alarmed / (alarmed + rejected))

    return with_prior(PESSIMISTIC), with_prior(OPTIMISTIC)


def _unit_weights(
    unit_of: Int[np.ndarray, " n"], rng: np.random.Generator
) -> Iterator[Float[np.ndarray, "block n"]]:
    """Yield the weights of the images in blocks of draws that fit into memory."""
    block = max(1, min(NUM_DRAWS, MAX_ELEMENTS // len(unit_of)))
    for start in range(0, NUM_DRAWS, block):
        shape = min(block, NUM_DRAWS - start), int(unit_of.max()) + 1
        yield rng.standard_exponential(shape)[:, unit_of]


def _weights_by_place(
    weights: Float[np.ndarray, "block n"],
    is_class: Bool[np.ndarray, " n"],
    place: Int[np.ndarray, " n"],
    num_thresholds: int,
) -> tuple[Float[np.ndarray, "block places"], Float[np.ndarray, "block places"]]:
    """Sum the weights of the images of the class, and of others, at each place."""
    sums = []
    for members in (is_class, ~is_class):
        order = np.flatnonzero(members)[np.argsort(place[members], kind="stable")]
        cumulative = np.pad(weights[:, order].cumsum(axis=1), ((0, 0), (1, 0)))
        ends = np.searchsorted(place[order], np.arange(num_thresholds + 1), side="right")
        sums.append(cumulative[:, ends])
    return sums[0], sums[1]


def _add_prior(
    cumulative: Float[np.ndarray, "draws places"],
    above: float,
    below: float,
    unit_size: float,
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "draws cuts"], Float[np.ndarray, "draws cuts"]]:
    """Add pseudo-images above and below all thresholds.

    Args:
        cumulative: Weight at and above each threshold; the last place is the total.
        above: Number of pseudo-images above all thresholds.
        below: Number below all.
        unit_size: Images that a pseudo-image counts for.
        rng: Random number generator.

    Returns:
        Weight at and above each threshold, and below it.
    """
    column = len(cumulative), 1
    total = cumulative[:, -1:]
    reached = cumulative[:, :-1]
    positive = reached + unit_size * rng.gamma(above, size=column)
    negative = (total - reached).clip(min=0) + unit_size * rng.gamma(below, size=column)
    return positive, negative
