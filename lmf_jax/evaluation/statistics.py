"""Intervals of all metrics, paired tests and means over seeds."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Integer
from scipy import special

from lmf_jax.evaluation.calibration_error import debiased_calibration_error
from lmf_jax.evaluation.classification.metrics import Fraction, predicted_classes
from lmf_jax.evaluation.classification.scores import (
    RankingMetrics,
    Rankings,
    Scores,
    Weights,
    calibration,
    log_odds,
    rank_by_class,
    ranking_metrics,
    softmax,
)
from lmf_jax.evaluation.permutation import macro_f1_test, mean_test
from lmf_jax.evaluation.posterior import metric_difference, metric_intervals
from lmf_jax.evaluation.resampling import (
    LEVEL,
    NUM_RESAMPLES,
    Groups,
    expanded_level,
    num_units,
    percentile_interval,
    resample,
    unit_codes,
)

FEW_DISCORDANT = 25
"""McNemar's test is exact for fewer discordant examples or groups than this."""


class PairedDifference(NamedTuple):
    """Difference of two models on the same examples, with interval and two-sided p-value."""

    difference: float
    low: float
    high: float
    p_value: float


class _RankingPair(NamedTuple):
    first: Rankings
    second: Rankings


class McNemar(NamedTuple):
    """Numbers of examples that only one of two models gets right, and the test of equality."""

    only_first: int
    only_second: int
    statistic: float
    p_value: float


class SeedMean(NamedTuple):
    """Mean over runs with different seeds, with t-interval and standard deviation."""

    mean: float
    low: float
    high: float
    standard_deviation: float


def score_intervals(
    labels: Integer[np.ndarray, " n"],
    logits: Float[np.ndarray, "n classes"],
    *,
    groups: Groups | None = None,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> tuple[Scores, float]:
    """Compute the intervals of all metrics of a model.

    Args:
        labels: Class ids ``[n]``.
        logits: Scores ``[n, C]``.
        groups: Lesion or patient of each example, see :func:`resample`.
        level: Nominal coverage, in (0, 1).
        num_resamples: Number of resamples for AUROC and average precision.
        seed: Seed of the random draws.

    Returns:
        The metrics with a leading axis of low and high, and the debiased calibration error.
        Confusion-matrix metrics have the intervals of :func:`metric_intervals`, the calibration
        error that of :func:`debiased_calibration_error`. AUROC and average precision have bootstrap
        percentile intervals, which are too narrow for a class with few examples.

    Raises:
        ValueError: If a logit is NaN.
    """
    num_classes = logits.shape[-1]
    predictions = predicted_classes(logits)
    samples = resample(
        _weighted_ranking,
        rank_by_class(labels, log_odds(logits)),
        labels,
        num_classes,
        groups=groups,
        num_resamples=num_resamples,
        seed=seed,
    )
    calibrated = calibration(labels, softmax(logits))
    ece = debiased_calibration_error(calibrated, groups=groups, level=level, seed=seed)
    intervals = Scores(
        classification=metric_intervals(
            labels, predictions, num_classes=num_classes, groups=groups, level=level, seed=seed
        ),
        ranking=jax.tree.map(partial(percentile_interval, level=level), samples),
        ece=np.array([ece.low, ece.high]),
    )
    return intervals, ece.value


def compare_macro_f1(
    labels: Integer[np.ndarray, " n"],
    first: Integer[np.ndarray, "first n"],
    second: Integer[np.ndarray, "second n"],
    *,
    num_classes: int,
    groups: Groups | None = None,
    level: float = LEVEL,
    seed: int = 0,
) -> PairedDifference:
    """Compare the macro F1 of two models, or of two sets of seeds, on the same examples.

    Args:
        labels: Class ids ``[n]``.
        first: Predicted class ids, a row for each seed ``[S, n]``.
        second: Predicted class ids of the other model ``[T, n]``.
        num_classes: Number of classes ``C`` of the dataset.
        groups: Lesion or patient of each example, see :func:`macro_f1_interval`.
        level: Nominal coverage of the interval, in (0, 1).
        seed: Seed of the random draws.

    Returns:
        First minus second, as means over seeds; the interval of
        :func:`metric_difference` and the p-value of :func:`macro_f1_test`.
    """
    difference, low, high = metric_difference(
        labels, first, second, num_classes=num_classes, groups=groups, level=level, seed=seed
    )
    p_value = macro_f1_test(
        labels, first, second, num_classes=num_classes, groups=groups, seed=seed
    )
    return PairedDifference(difference, low, high, p_value)


def auroc_difference(
    labels: Integer[np.ndarray, " n"],
    first: Float[np.ndarray, "n classes"],
    second: Float[np.ndarray, "n classes"],
    *,
    groups: Groups | None = None,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Compute the difference in macro AUROC of two models on the same examples, with its interval.

    Args:
        labels: Class ids ``[n]``, of at least two classes.
        first: Logits of the first model ``[n, C]``.
        second: Logits of the second model ``[n, C]``.
        groups: Lesion or patient of each example, see :func:`resample`.
        level: Nominal coverage, in (0, 1).
        num_resamples: Number of resamples.
        seed: Seed of the resamples.

    Returns:
        First minus second and the two ends of its bootstrap percentile interval, which is too
        narrow if a class has few examples.

    Raises:
        ValueError: If a logit is NaN.
    """
    pair = _RankingPair(*(rank_by_class(labels, log_odds(x)) for x in (first, second)))
    samples = resample(
        _auroc_difference,
        pair,
        labels,
        first.shape[-1],
        groups=groups,
        num_resamples=num_resamples,
        seed=seed,
    )
    low, high = percentile_interval(samples, level=level)
    difference = _auroc_difference(pair, np.ones(len(labels)), first.shape[-1])
    return float(difference), float(low), float(high)


def compare_means(
    differences: Float[np.ndarray, " n"],
    samples: Float[np.ndarray, " resamples"],
    *,
    groups: Groups | None = None,
    level: float = LEVEL,
) -> PairedDifference:
    """Compare the means over cases of two models.

    Args:
        differences: Difference of the models on each case ``[n]``.
        samples: Mean difference of each resample of the cases ``[R]``.
        groups: Lesion or patient of each case; None if all cases are independent.
        level: Nominal coverage of the interval, in (0, 1).

    Returns:
        The mean difference, its expanded percentile interval (see :func:`expanded_level`), and the
        p-value of :func:`mean_test`.
    """
    expanded = expanded_level(level, num_units(len(differences), groups))
    low, high = percentile_interval(samples, level=expanded)
    p_value = mean_test(differences, groups=groups)
    return PairedDifference(float(differences.mean()), float(low), float(high), p_value)


def mcnemar(
    first_correct: Bool[np.ndarray, " n"],
    second_correct: Bool[np.ndarray, " n"],
    groups: Groups | None = None,
) -> McNemar:
    """Test whether two models have the same accuracy on the same examples (McNemar 1947).

    With groups, whose examples are not independent, it is the modified Obuchowski test (Yang, Sun
    and Hardin 2010, doi:10.1002/bimj.201000035): if one model is right on ``d_k`` more examples of
    group ``k`` than the other, ``(sum d_k)^2 / sum d_k^2`` is chi-square with one degree of
    freedom. With groups of one example, it is McNemar's test. Both have a continuity correction.

    With fewer than 25 groups in which the models differ, the test is exact: under the null
    hypothesis, the signs of the ``d_k`` are random. The statistic is then the smaller of the sums
    of positive and negative ``d_k``; without groups, this is the two-sided binomial test.

    Args:
        first_correct: Whether the first model is right on each example ``[n]``.
        second_correct: Whether the second model is right on each example ``[n]``.
        groups: Lesion or patient of each example, see
            :func:`lmf_jax.evaluation.resampling.resample`; None if all examples are independent.
    """
    ahead = first_correct.astype(int) - second_correct
    only_first, only_second = int((ahead > 0).sum()), int((ahead < 0).sum())
    leads = np.bincount(unit_codes(len(ahead), groups), ahead).astype(int)
    sizes, total = abs(leads[leads != 0]), abs(int(leads.sum()))
    if len(sizes) < FEW_DISCORDANT:
        fewer = (int(sizes.sum()) - total) // 2
        probabilities = np.ones(1)  # Of the sums 0, 1, 2, ... of one model's leads.
        for size in sizes:
            probabilities = (
                np.pad(probabilities, (0, size)) + np.pad(probabilities, (size, 0))
            ) / 2
        p_value = min(1.0, 2 * float(probabilities[: fewer + 1].sum()))
        return McNemar(only_first, only_second, float(fewer), p_value)
    statistic = max(total - 1, 0) ** 2 / int((sizes**2).sum())
    return McNemar(only_first, only_second, statistic, float(special.chdtrc(1, statistic)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct the p-values of several tests by Holm's step-down method (Holm 1979).

    Rejecting the tests with corrected p-values below 0.05 limits the family-wise error rate to
    0.05.

    Args:
        p_values: P-values of the tests, in any order.

    Returns:
        The corrected p-values in the same order, each at least as large as before, at most 1.
    """
    values = np.asarray(p_values, float)
    order = np.argsort(values, kind="stable")
    stepped = values[order] * np.arange(len(values), 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.maximum.accumulate(stepped).clip(max=1)
    return corrected.tolist()


def mean_over_seeds(values: Sequence[float], *, level: float = LEVEL) -> SeedMean:
    """Compute the mean of a metric over seeds and its Student t-interval.

    The interval covers the effects of the seed (initial weights, order, augmentation) on one test
    set.

    Args:
        values: The metric of each run, at least two.
        level: Coverage of the interval for normally distributed values.

    Raises:
        ValueError: If there are fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"There are {len(values)} seeds; an interval needs at least 2.")
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    quantile = special.stdtrit(len(values) - 1, (1 + level) / 2)
    half_width = float(quantile) * deviation / len(values) ** 0.5
    return SeedMean(mean, mean - half_width, mean + half_width, deviation)


def mean_difference_over_seeds(
    first: Sequence[float], second: Sequence[float], *, level: float = LEVEL
) -> SeedMean:
    """Compute the mean difference of two models over the same seeds and its paired t-interval.

    Args:
        first: Metric of the first model by seed.
        second: Metric of the second model for the same seeds in the same order.
        level: Coverage of the interval.

    Raises:
        ValueError: If the numbers of seeds differ, or there are fewer than two.
    """
    if len(first) != len(second):
        raise ValueError(f"There are {len(first)} and {len(second)} seeds; expected the same ones.")
    return mean_over_seeds(np.subtract(first, second).tolist(), level=level)


def _weighted_ranking(rankings: Rankings, weights: Float[Array, " n"], _: int) -> RankingMetrics:
    return ranking_metrics(rankings, weights)


def _auroc_difference(pair: _RankingPair, weights: Weights, _: int) -> Fraction:
    first, second = (ranking_metrics(rankings, weights).macro_auroc for rankings in pair)
    return first - second
