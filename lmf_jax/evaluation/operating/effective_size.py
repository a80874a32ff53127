"""Effective sample size of images that belong to a smaller number of lesions or patients.

If the ``m`` images of a unit are correlated by ``rho``, the variance of a fraction of ``n`` images
is larger than that of independent images by the design effect ``1 + rho * (size - 1)``, where
``size = sum m^2 / sum m`` is the mean size of the unit of an image (Kish 1965). Counts divided by
the design effect then act like counts of independent images (Korn and Graubard 1998,
doi:10.1002/sim.4780171106).

A fraction close to 1 has few errors, too few to estimate their correlation, and a sample with few
errors also shows little correlation. Therefore the correlation is the larger of two estimates, that
of the decisions and that of the ranks of the scores, which uses all images, and it is drawn toward
1 as if :data:`PRIOR_UNITS` more units with errors had been seen whose images all agree.
``tests/evaluation/operating/test_guarantee.py`` simulates the guarantees that are based on it.
"""

import numpy as np
from jaxtyping import Float, Integer, Num, Shaped
from scipy import special

PRIOR_UNITS = 4
"""Number of units with errors and correlation 1 that are added to the estimate."""


def within_unit_correlation(
    scores: Float[np.ndarray, " n"], units: Integer[np.ndarray, " n"], threshold: float
) -> float:
    """Estimate the correlation of images of one unit around a threshold, cautiously.

    Args:
        scores: Score of each image ``[n]``.
        units: Unit of each image ``[n]``, from
            :func:`lmf_jax.evaluation.resampling.unit_codes`.
        threshold: The score from which on an image counts as positive.

    Returns:
        The correlation in (0, 1]; 1 if no unit has two images or all scores are equal.
    """
    if len(scores) == 0:
        return 1.0
    is_below = scores < threshold
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (counts.cumsum() - (counts - 1) / 2)[place]
    found = [_correlation(values, units) for values in (rank, is_below.astype(float))]
    estimate = max((value for value in found if value is not None), default=1.0)
    errors = min(len(np.unique(units[side])) for side in (is_below, ~is_below))
    return (errors * estimate + PRIOR_UNITS) / (errors + PRIOR_UNITS)


def _correlation(values: Float[np.ndarray, " n"], units: Integer[np.ndarray, " n"]) -> float | None:
    """Return the mean product of pairs within a unit over the variance; None if undefined."""
    deviations = values - values.mean()
    squares = deviations @ deviations
    unit_of = np.unique(units, return_inverse=True)[1]
    sizes = np.bincount(unit_of)
    pairs = int((sizes * (sizes - 1)).sum())
    if pairs == 0 or squares <= 0:
        return None
    sums = np.bincount(unit_of, deviations)
    return float(np.clip((sums @ sums - squares) / pairs / (squares / len(values)), 0, 1))


def design_effect(units: Shaped[np.ndarray, " n"], correlation: float) -> float:
    """Return the factor by which correlated images increase the variance of a fraction.

    Args:
        units: Unit of each image ``[n]``.
        correlation: Correlation of images of one unit, in [0, 1].

    Returns:
        At least 1; with correlation 1, ``n`` over it is the effective number of units.
    """
    if len(units) == 0:
        return 1.0
    sizes = np.unique(units, return_counts=True)[1]
    return float(1 + correlation * ((sizes @ sizes) / len(units) - 1))


def lower_bound(
    hits: Num[np.ndarray, "*shape"] | int,
    misses: Num[np.ndarray, "*shape"] | int,
    *,
    level: float,
    design_effect: float = 1.0,
) -> Float[np.ndarray, "*shape"]:
    """Compute the one-sided lower confidence bound of a fraction (Clopper and Pearson 1934).

    It is also the tolerance limit of Wilks (1941): if the threshold is the k-th smallest of n
    scores, ``hits = n - k + 1`` and ``misses = k - 1``, the fraction of the population above it is
    at least the bound with confidence ``level``.

    Args:
        hits: Number of images above the threshold.
        misses: Number of images below it.
        level: Confidence, in (0, 1).
        design_effect: Both counts are divided by it, see :func:`design_effect`.

    Returns:
        The bound in [0, 1); 0 without hits.
    """
    a, b = np.asarray(hits) / design_effect, np.asarray(misses) / design_effect + 1
    return np.where(a > 0, special.betaincinv(np.where(a > 0, a, 1), b, 1 - level), 0.0)
