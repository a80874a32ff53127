"""Debiased expected calibration error, and its interval.

The expected calibration error (ECE) sums absolute gaps, so noise increases it: a perfectly
calibrated model with 1,500 test images has an ECE of about 0.03. For an assumed true error, the
ECEs of many test sets are simulated. The debiased value is the true error whose simulated ECEs have
the observed ECE as their median; it is 0 if the median of a calibrated model is at least as large.
The interval contains the true errors for which the observed ECE lies in the central 95 % of the
simulated ones. If the observed ECE is smaller than the median of a calibrated model, that median
takes its place in the upper end, which would otherwise shrink to 0 by luck (a power-constrained
limit: Cowan et al. 2011, arXiv 1105.3166).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from lmf_jax.evaluation.classification.scores import Calibration, expected_calibration_error
from lmf_jax.evaluation.resampling import LEVEL, Groups, unit_codes

NUM_DRAWS = 2000
_BISECTIONS = 24


class CalibrationError(NamedTuple):
    """Debiased ECE with its interval, and the plain ECE of the same examples; in [0, 1]."""

    value: float
    low: float
    high: float
    observed: float


def debiased_calibration_error(
    calibrated: Calibration,
    *,
    groups: Groups | None = None,
    level: float = LEVEL,
    seed: int = 0,
) -> CalibrationError:
    """Estimate the calibration error of the largest probability, with an interval.

    Args:
        calibrated: Output of :func:`lmf_jax.evaluation.classification.scores.calibration`.
        groups: Lesion or patient of each example ``[n]``; None if all examples are independent.
        level: Nominal coverage of the interval, in (0, 1).
        seed: Seed of the simulated noise.

    Returns:
        The estimate; the interval contains it.
    """
    in_bin = np.asarray(calibrated.in_bin, float)
    excess = np.asarray(calibrated.correct, float) - np.asarray(calibrated.confidence, float)
    counts = in_bin.sum(axis=1)
    in_bin, counts = in_bin[counts > 0], counts[counts > 0]
    gaps = in_bin @ excess / counts
    deviations = _deviations(in_bin, counts, gaps, calibrated, groups)
    weights = counts / counts.sum()
    observed = float(expected_calibration_error(calibrated, np.ones(len(excess))))

    noise = np.random.default_rng(seed).normal(size=(NUM_DRAWS, len(counts))) * deviations
    # The true gaps are unknown. Assume their sizes proportional to sqrt(gap^2 + deviation^2), so
    # that a bin whose observed gap is 0 by chance gets a share, scaled to an ECE of 1.
    unit_gaps = np.sign(gaps) * np.sqrt(gaps**2 + deviations**2)
    size = weights @ abs(unit_gaps)
    unit_gaps /= size if size > 0 else 1  # All confidences 1 and all correct: no gap and no noise.

    def error_with_quantile(quantile: float, ece: float) -> float:
        """Find by bisection the error in [0, 1] for which an observed ECE is this quantile."""
        low, high = 0.0, 1.0
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            simulated = abs(middle * unit_gaps + noise) @ weights
            too_small = np.quantile(simulated, quantile) < ece
            low, high = (middle, high) if too_small else (low, middle)
        return low

    low = error_with_quantile((1 + level) / 2, observed)
    value = error_with_quantile(0.5, observed)
    typical = float(np.median(abs(noise) @ weights))
    high = error_with_quantile((1 - level) / 2, max(observed, typical))
    return CalibrationError(value, low, high, observed)


def _deviations(
    in_bin: Float[np.ndarray, "bins n"],
    counts: Float[np.ndarray, " bins"],
    gaps: Float[np.ndarray, " bins"],
    calibrated: Calibration,
    groups: Groups | None,
) -> Float[np.ndarray, " bins"]:
    """Return the standard deviation of the gap of each bin.

    It is the larger of the deviations at the observed accuracy and at an accuracy equal to the
    confidence, so that it is positive for a bin of few examples that are all correct.
    """
    confidence = in_bin @ np.asarray(calibrated.confidence, float) / counts
    correct = in_bin @ np.asarray(calibrated.correct, float)
    accuracy = correct / counts
    variances = np.maximum(accuracy * (1 - accuracy), confidence * (1 - confidence)) / counts
    excess = np.asarray(calibrated.correct, float) - np.asarray(calibrated.confidence, float)
    variances *= design_effect(excess - gaps @ in_bin, groups)
    return np.sqrt(variances)


def design_effect(residuals: Float[np.ndarray, " n"], groups: Groups | None) -> float:
    """Return the factor, at least 1, by which correlation within groups increases a variance.

    Args:
        residuals: Of each example ``[n]``, with the mean 0.
        groups: Lesion or patient of each example ``[n]``; None if all are independent.
    """
    if groups is None:
        return 1.0
    sums = np.bincount(unit_codes(len(residuals), groups), residuals)
    return max(1.0, (sums @ sums) / max(residuals @ residuals, 1e-12))
