"""Error rates of a decision for one class, with intervals, also at another prevalence.

The intervals come from posterior draws of the 2x2 matrix of the class against the rest, see
:mod:`lmf_jax.evaluation.posterior`, with lesions or patients as units. PPV and NPV at a prevalence
come from the same draws of sensitivity and specificity by Bayes' rule.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from scipy import special

from lmf_jax.evaluation.posterior import (
    OPTIMISTIC,
    PESSIMISTIC,
    draw_cells,
    draw_confusions,
    unit_table,
)
from lmf_jax.evaluation.resampling import LEVEL, Groups, percentile_interval


class Estimate(NamedTuple):
    """A rate in [0, 1] with its interval, which contains it."""

    value: float
    low: float
    high: float


class Rates(NamedTuple):
    """Error rates of a decision; None where a rate is undefined.

    Attributes:
        sensitivity: Fraction of the class that is called positive.
        specificity: Fraction of the other classes that is called negative.
        ppv: Positive predictive value: fraction of positive images that are of the class.
        npv: Negative predictive value: fraction of negative images that are of other classes.
        flagged: Fraction of all images that is called positive.
    """

    sensitivity: Estimate | None
    specificity: Estimate | None
    ppv: Estimate | None
    npv: Estimate | None
    flagged: Estimate | None


def decision_rates(
    is_class: Bool[np.ndarray, " n"],
    is_positive: Bool[np.ndarray, " n"],
    *,
    groups: Groups | None = None,
    prevalence: float | None = None,
    level: float = LEVEL,
    seed: int = 0,
) -> Rates:
    """Estimate the error rates of a decision, with intervals by unit.

    Args:
        is_class: Whether each image is of the class ``[n]``.
        is_positive: Whether it is called positive ``[n]``.
        groups: Lesion or patient of each image, see :func:`lmf_jax.evaluation.resampling.resample`.
        prevalence: Fraction of the class for ``ppv``, ``npv`` and ``flagged``, in (0, 1); None for
            that of these images.
        level: Nominal coverage of the intervals, in (0, 1).
        seed: Seed of the draws.

    Returns:
        The rates. Without images of the class, or without others, only the rate of the images that
        exist is defined; without positive images the PPV is undefined, and the NPV without negative
        ones.

    Raises:
        ValueError: If there is no image.
    """
    table = unit_table(
        is_class.astype(int), is_positive.astype(int)[None], num_classes=2, groups=groups
    )
    confusion = np.tensordot(table.repeats, table.cells[:, 0], axes=1)
    rng = np.random.default_rng(seed)
    weighted = draw_cells(table, rng)[:, 0]
    negatives, positives = confusion.sum(axis=1)
    # The rows get equal sums, as the rates of an absent class would be undefined.
    ones = np.ones_like(confusion)
    low, high = (
        draw_confusions(weighted, ones, table.unit_size, prior, rng) / 2
        for prior in (PESSIMISTIC, OPTIMISTIC)
    )
    observed = confusion / np.array([[max(negatives, 1)], [max(positives, 1)]])
    # Few images are positive with the low sensitivity and the high specificity.
    few = np.stack([high[:, 0], low[:, 1]], axis=1)
    many = np.stack([low[:, 0], high[:, 1]], axis=1)

    def estimate(
        rate: str, lower: Num[np.ndarray, "draws 2 2"], upper: Num[np.ndarray, "draws 2 2"]
    ) -> Estimate | None:
        share = positives / len(is_class) if prevalence is None else prevalence
        value, below, above = (
            _RATES[rate](matrices, share) for matrices in (observed, lower, upper)
        )
        return _with_interval(float(value), below, above, level)

    has_both = positives > 0 and negatives > 0
    called = int(is_positive.sum())
    return Rates(
        sensitivity=estimate("sensitivity", low, high) if positives else None,
        specificity=estimate("specificity", low, high) if negatives else None,
        ppv=estimate("ppv", low, high) if has_both and called else None,
        npv=estimate("npv", low, high) if has_both and called < len(is_class) else None,
        flagged=estimate("flagged", few, many) if has_both else None,
    )


def _ppv(rates: Float[np.ndarray, "*draws 2 2"], prevalence: float) -> Float[np.ndarray, "*draws"]:
    """Return the PPV of rates by true class (others, the class) and decision."""
    true, false = prevalence * rates[..., 1, 1], (1 - prevalence) * rates[..., 0, 1]
    return np.asarray(true / np.maximum(true + false, np.finfo(float).tiny))


def _npv(rates: Float[np.ndarray, "*draws 2 2"], prevalence: float) -> Float[np.ndarray, "*draws"]:
    true, false = (1 - prevalence) * rates[..., 0, 0], prevalence * rates[..., 1, 0]
    return np.asarray(true / np.maximum(true + false, np.finfo(float).tiny))


def _flagged(
    rates: Float[np.ndarray, "*draws 2 2"], prevalence: float
) -> Float[np.ndarray, "*draws"]:
    return np.asarray(prevalence * rates[..., 1, 1] + (1 - prevalence) * rates[..., 0, 1])


_RATES = {
    "sensitivity": lambda rates, _: rates[..., 1, 1],
    "specificity": lambda rates, _: rates[..., 0, 0],
    "ppv": _ppv,
    "npv": _npv,
    "flagged": _flagged,
}
"""Rates by name, of matrices whose rows (others, the class) sum to 1, and of a prevalence."""


def _with_interval(
    value: float,
    lower: Float[np.ndarray, " draws"],
    upper: Float[np.ndarray, " draws"],
    level: float,
) -> Estimate:
    low, high = (
        percentile_interval(lower, level=level)[0],
        percentile_interval(upper, level=level)[1],
    )
    return Estimate(value, min(float(low), value), max(float(high), value))


def prediction_interval(
    hits: int,
    misses: int,
    num_new: int,
    *,
    design_effect: float = 1.0,
    new_design_effect: float = 1.0,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Compute where a fraction lies in a new sample of a given size.

    The interval is wider than that of the fraction itself, because the new sample is random too.
    The true fraction is Beta(hits, misses + 1) distributed at the lower end and Beta(hits + 1,
    misses) at the upper end, as in the Clopper-Pearson interval, so that the number of new hits is
    beta-binomial. At the k-th smallest of n independent scores, the lower end is exact also for a
    threshold that was chosen with these scores (Wilks 1941).

    Args:
        hits: Number of images above the threshold.
        misses: Number of images below it.
        num_new: Number of images of the new sample.
        design_effect: Factor that both counts are divided by, see
            :func:`lmf_jax.evaluation.operating.effective_size.design_effect`.
        new_design_effect: The same of the new sample.
        level: Nominal coverage, in (0, 1).

    Returns:
        The ends, in [0, 1]; ``(0, 1)`` for a new sample without images.
    """
    count = int(num_new / new_design_effect)
    if num_new == 0 or count == 0:
        return 0.0, 1.0
    hits_, misses_ = hits / design_effect, misses / design_effect
    tail = (1 - level) / 2
    low = _quantile(count, hits_, misses_ + 1, tail) if hits else 0
    high = _quantile(count, hits_ + 1, misses_, 1 - tail) if misses else count
    return low / count, high / count


def _quantile(count: int, a: float, b: float, probability: float) -> int:
    """Return the smallest number whose cumulative beta-binomial probability is at least that."""
    cumulative = beta_binomial(count, a, b).cumsum()
    return min(int(np.searchsorted(cumulative, probability)), count)


def beta_binomial(count: int, a: float, b: float) -> Float[np.ndarray, " outcomes"]:
    """Return the probability of 0 to ``count`` hits whose rate is Beta(a, b) distributed."""
    hits: Int[np.ndarray, " outcomes"] = np.arange(count + 1)
    log_choices = -special.betaln(hits + 1, count - hits + 1) - np.log(count + 1)
    return np.exp(log_choices + special.betaln(hits + a, count - hits + b) - special.betaln(a, b))
