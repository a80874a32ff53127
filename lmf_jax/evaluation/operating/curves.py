"""ROC, precision-recall and decision curves of one class, with pointwise bands.

The bands come from the same posterior draws as the intervals of
:mod:`lmf_jax.evaluation.posterior`: each lesion or patient gets a Gamma(1) weight with all its
images (the Bayesian bootstrap, Rubin 1981), and pseudo-images that are right or wrong at every
threshold are added to both classes, so that the band of a perfect classifier of few images is not a
line. A band contains the curve at each point with the stated probability, not everywhere at once.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from lmf_jax.evaluation.operating.curve_draws import draw_rates, fewer_thresholds
from lmf_jax.evaluation.operating.cuts import check_probabilities, cut_everywhere
from lmf_jax.evaluation.operating.rates import Estimate
from lmf_jax.evaluation.resampling import LEVEL, Groups, percentile_interval

MIN_SENSITIVITY = 0.8
"""The partial AUC of the ISIC 2024 challenge is the area above this sensitivity."""
GRID = np.linspace(0, 1, 101)
DECISION_THRESHOLDS = np.linspace(0.01, 0.99, 99)


class Band(NamedTuple):
    """Pointwise interval of a curve.

    Attributes:
        x: Position on the horizontal axis.
        low: Lower end.
        high: Upper end.
    """

    x: Float[np.ndarray, " points"]
    low: Float[np.ndarray, " points"]
    high: Float[np.ndarray, " points"]


class RocCurve(NamedTuple):
    """Sensitivity against the false-positive rate, from no positive image to all.

    Attributes:
        false_positive_rate: One minus the specificity at each threshold.
        sensitivity: Sensitivity at each threshold.
        band: Band of the sensitivity.
        partial_auc: See :func:`partial_auc`, with its interval.
    """

    false_positive_rate: Float[np.ndarray, " cuts"]
    sensitivity: Float[np.ndarray, " cuts"]
    band: Band
    partial_auc: Estimate


class PrecisionRecallCurve(NamedTuple):
    """Precision against recall, that is PPV against sensitivity, from few positive images to all.

    Attributes:
        recall: Recall at each threshold.
        precision: Precision at each threshold.
        band: Band of the precision.
        prevalence: Precision of a classifier that knows nothing.
    """

    recall: Float[np.ndarray, " cuts"]
    precision: Float[np.ndarray, " cuts"]
    band: Band
    prevalence: float


class DecisionCurve(NamedTuple):
    """Net benefit of acting on images above each threshold (Vickers and Elkin 2006).

    Attributes:
        thresholds: Threshold probabilities.
        net_benefit: ``TP/n - FP/n * t / (1 - t)`` at threshold ``t``.
        band: Band of the net benefit.
        treat_all: Net benefit of calling every image positive; that of calling none is 0.
    """

    thresholds: Float[np.ndarray, " thresholds"]
    net_benefit: Float[np.ndarray, " thresholds"]
    band: Band
    treat_all: Float[np.ndarray, " thresholds"]


def roc_curve(
    is_class: Bool[np.ndarray, " n"],
    probability: Float[np.ndarray, " n"],
    *,
    groups: Groups | None = None,
    level: float = LEVEL,
    seed: int = 0,
) -> RocCurve:
    """Compute the ROC curve of a class with its band and partial AUC.

    Args:
        is_class: Whether each image is of the class ``[n]``.
        probability: Its probability of the class ``[n]``, in [0, 1].
        groups: Lesion or patient of each image, see :func:`lmf_jax.evaluation.resampling.resample`.
        level: Nominal coverage of band and interval, in (0, 1).
        seed: Seed of the draws.

    Raises:
        ValueError: If the images are all of the class or all of others, or a probability is not in
            [0, 1].
    """
    _check_both(is_class, probability)
    cuts = cut_everywhere(is_class, probability)
    sensitivity, false_positive_rate = cuts.sensitivity[::-1], 1 - cuts.specificity[::-1]
    low, high = draw_rates(
        is_class, probability, fewer_thresholds(is_class, probability), groups, seed
    )
    curves = [
        _interpolate(GRID, _with_ends(draws.false_positive_rate), _with_ends(draws.sensitivity))
        for draws in (low, high)
    ]
    areas = [
        partial_auc(_with_ends(draws.false_positive_rate), _with_ends(draws.sensitivity))
        for draws in (low, high)
    ]
    area = float(partial_auc(false_positive_rate, sensitivity))
    return RocCurve(
        false_positive_rate,
        sensitivity,
        _band(GRID, curves[0], curves[1], level),
        _estimate(area, areas[0], areas[1], level),
    )


def partial_auc(
    false_positive_rate: Float[np.ndarray, "*draws cuts"],
    sensitivity: Float[np.ndarray, "*draws cuts"],
    min_sensitivity: float = MIN_SENSITIVITY,
) -> Float[np.ndarray, "*draws"]:
    """Compute the area under the ROC curve above a sensitivity.

    It is the primary metric of the ISIC 2024 challenge: the part of the area between the ROC curve
    and the horizontal line at 0.8. A classifier that knows nothing has 0.02.

    Args:
        false_positive_rate: Of each threshold, increasing from 0 to 1.
        sensitivity: The same of the sensitivity.
        min_sensitivity: The line, in [0, 1).

    Returns:
        The area in ``[0, 1 - min_sensitivity]``.
    """
    start, stop = sensitivity[..., :-1], sensitivity[..., 1:]
    left, right = false_positive_rate[..., :-1], false_positive_rate[..., 1:]
    rise = stop - start
    bottom = np.maximum(start, min_sensitivity)
    crossing = left + (right - left) * (bottom - start) / np.where(rise > 0, rise, 1)
    heights = (stop - bottom).clip(min=0)
    return np.asarray((heights * (1 - (crossing + right) / 2)).sum(axis=-1))


def precision_recall_curve(
    is_class: Bool[np.ndarray, " n"],
    probability: Float[np.ndarray, " n"],
    *,
    groups: Groups | None = None,
    level: float = LEVEL,
    seed: int = 0,
) -> PrecisionRecallCurve:
    """Compute the precision-recall curve of a class with its band.

    The arguments and errors are those of :func:`roc_curve`.
    """
    _check_both(is_class, probability)
    cuts = cut_everywhere(is_class, probability)
    prevalence = cuts.positives / len(is_class)
    recall = cuts.sensitivity[:-1][::-1]  # Without the cut that no image reaches.
    curves = []
    for draws in draw_rates(
        is_class, probability, fewer_thresholds(is_class, probability), groups, seed
    ):
        true = prevalence * draws.sensitivity
        flagged = true + (1 - prevalence) * draws.false_positive_rate
        precision = true / np.maximum(flagged, np.finfo(float).tiny)
        curves.append(_interpolate(GRID, draws.sensitivity, precision))
    return PrecisionRecallCurve(
        recall,
        cuts.ppv(prevalence)[:-1][::-1],
        _band(GRID, curves[0], curves[1], level),
        prevalence,
    )


def decision_curve(
    is_class: Bool[np.ndarray, " n"],
    probability: Float[np.ndarray, " n"],
    *,
    groups: Groups | None = None,
    prevalence: float | None = None,
    level: float = LEVEL,
    seed: int = 0,
) -> DecisionCurve:
    """Compute the net benefit of a class at thresholds from 0.01 to 0.99, with its band.

    Args:
        is_class: Whether each image is of the class ``[n]``.
        probability: Its calibrated probability of the class ``[n]``, in [0, 1].
        groups: Lesion or patient of each image, see :func:`lmf_jax.evaluation.resampling.resample`.
        prevalence: Fraction of the class where the decision is made, in (0, 1); probabilities are
            converted to it. None for that of these images.
        level: Nominal coverage of the band, in (0, 1).
        seed: Seed of the draws.

    Raises:
        ValueError: See :func:`roc_curve`.
    """
    _check_both(is_class, probability)
    here = float(is_class.mean())
    if prevalence is not None:
        probability = _at_prevalence(probability, here, prevalence)
    else:
        prevalence = here
    thresholds = DECISION_THRESHOLDS
    harm = (1 - prevalence) * thresholds / (1 - thresholds)
    positive = probability >= thresholds[:, None]
    net_benefit = prevalence * positive[:, is_class].mean(axis=1) - harm * positive[
        :, ~is_class
    ].mean(axis=1)
    low, high = (
        prevalence * draws.sensitivity[:, ::-1] - harm * draws.false_positive_rate[:, ::-1]
        for draws in draw_rates(is_class, probability, thresholds[::-1], groups, seed)
    )
    band = _band(thresholds, low, high, level)
    return DecisionCurve(
        thresholds,
        net_benefit,
        Band(thresholds, np.minimum(band.low, net_benefit), np.maximum(band.high, net_benefit)),
        prevalence - harm,
    )


def _at_prevalence(
    probability: Float[np.ndarray, " n"], here: float, there: float
) -> Float[np.ndarray, " n"]:
    """Convert probabilities from one prevalence to another, by the ratio of their odds."""
    true = probability * there / here
    false = (1 - probability) * (1 - there) / (1 - here)
    return np.asarray(true / (true + false))


def _check_both(is_class: Bool[np.ndarray, " n"], probability: Float[np.ndarray, " n"]) -> None:
    check_probabilities(is_class, probability)
    if is_class.all() or not is_class.any():
        raise ValueError("The images are all of the class or all of others; a curve needs both.")


def _with_ends(rates: Float[np.ndarray, "draws cuts"]) -> Float[np.ndarray, "draws more"]:
    """Add the ends of an ROC curve, 0 and 1."""
    return np.pad(np.pad(rates, ((0, 0), (1, 0))), ((0, 0), (0, 1)), constant_values=1.0)


def _interpolate(
    grid: Float[np.ndarray, " points"],
    x: Float[np.ndarray, "draws cuts"],
    y: Float[np.ndarray, "draws cuts"],
) -> Float[np.ndarray, "draws points"]:
    """Interpolate each drawn curve on a grid."""
    return np.stack([np.interp(grid, *curve) for curve in zip(x, y, strict=True)])


def _band(
    x: Float[np.ndarray, " points"],
    low: Float[np.ndarray, "draws points"],
    high: Float[np.ndarray, "draws points"],
    level: float,
) -> Band:
    return Band(
        x, percentile_interval(low, level=level)[0], percentile_interval(high, level=level)[1]
    )


def _estimate(
    value: float,
    low: Float[np.ndarray, " draws"],
    high: Float[np.ndarray, " draws"],
    level: float,
) -> Estimate:
    ends = percentile_interval(low, level=level)[0], percentile_interval(high, level=level)[1]
    return Estimate(value, min(float(ends[0]), value), max(float(ends[1]), value))
