"""How far a test can be trusted: bootstrap intervals, paired tests and means over seeds."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer
from scipy import special

from lmf_jax.evaluation.metrics import classification_metrics, macro_f1, predicted_classes
from lmf_jax.evaluation.resampling import (
    LEVEL,
    NUM_RESAMPLES,
    Groups,
    percentile_interval,
    resample,
    unit_codes,
)
from lmf_jax.evaluation.scores import (
    Calibration,
    Rankings,
    Scores,
    calibration,
    expected_calibration_error,
    log_odds,
    rank_by_class,
    ranking_metrics,
    softmax,
)

FEW_DISCORDANT = 25
"""With fewer discordant examples or groups, McNemar's test is exact."""


class PairedDifference(NamedTuple):
    """Difference of two models on the same examples, its interval, and a two-sided p-value."""

    difference: float
    low: float
    high: float
    p_value: float


class McNemar(NamedTuple):
    """Examples that only one of two models gets right, and the test of their equality."""

    only_first: int
    only_second: int
    statistic: float
    p_value: float


class SeedMean(NamedTuple):
    """Mean of several runs that differ in their seed, its t-interval and standard deviation."""

    mean: float
    low: float
    high: float
    standard_deviation: float


def bootstrap_scores(
    labels: Integer[np.ndarray, " n"],
    logits: Float[np.ndarray, "n classes"],
    *,
    groups: Groups | None = None,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Scores:
    """Compute percentile intervals of all metrics of a model by the stratified bootstrap.

    Args:
        labels: class ids ``[n]``.
        logits: scores ``[n, C]``.
        groups: lesion or patient of each example, see :func:`resample`.
        level: share of the resamples between the two ends.
        num_resamples: resamples.
        seed: of the resamples; equal seeds draw equal ones.

    Returns:
        The metrics with a leading axis of two, low and high. A class with one example is always
        drawn as it is: its interval says nothing of how it would fare with another example, and
        those of a class with few are too narrow. The ECE of a resample tends to be larger than that
        of the examples: the mean excess is taken off its interval.

    Raises:
        ValueError: if a logit is NaN.
    """
    num_classes = logits.shape[-1]
    probabilities = softmax(logits)
    arrays = (
        _cells(labels, predicted_classes(logits), num_classes),
        rank_by_class(labels, log_odds(logits)),
        calibration(labels, probabilities),
    )
    samples = resample(
        _weighted_scores,
        arrays,
        labels,
        num_classes,
        groups=groups,
        num_resamples=num_resamples,
        seed=seed,
    )
    observed = expected_calibration_error(arrays[2], np.ones(len(labels)))
    excess = samples.ece.mean() - observed
    samples = samples._replace(ece=(samples.ece - excess).clip(0, 1))
    return jax.tree.map(partial(percentile_interval, level=level), samples)


def bootstrap_macro_f1(
    labels: Integer[np.ndarray, " n"],
    predictions: Integer[np.ndarray, "models n"],
    *,
    num_classes: int,
    groups: Groups | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Float[np.ndarray, "{num_resamples} models"]:
    """Compute the macro F1 of several models on the same stratified resamples.

    Args:
        labels: class ids ``[n]``.
        predictions: predicted class ids of each model ``[M, n]``.
        num_classes: number of classes ``C`` of the dataset.
        groups: lesion or patient of each example, see :func:`resample`.
        num_resamples: resamples ``R``.
        seed: of the resamples; equal seeds draw equal ones.

    Returns:
        Macro F1 ``[R, M]``; within a row all models met the same examples.
    """
    cells = _cells(labels, predictions, num_classes)
    return resample(
        _weighted_macro_f1,
        cells,
        labels,
        num_classes,
        groups=groups,
        num_resamples=num_resamples,
        seed=seed,
    )


def paired_bootstrap(
    labels: Integer[np.ndarray, " n"],
    first: Integer[np.ndarray, "first n"],
    second: Integer[np.ndarray, "second n"],
    *,
    num_classes: int,
    groups: Groups | None = None,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    """Compare the macro F1 of two models, or of two sets of seeds, on the same examples.

    The examples are drawn once per resample and used for every model, so what makes an example
    hard for both cancels. Several seeds enter by their mean macro F1.

    Args:
        labels: class ids ``[n]``.
        first: predicted class ids, a row for each seed ``[S, n]``.
        second: those of the other model.
        num_classes: number of classes ``C`` of the dataset.
        groups: lesion or patient of each example, see :func:`resample`.
        level: share of the resamples between the ends of the interval.
        num_resamples: resamples.
        seed: of the resamples.

    Returns:
        First minus second; see :func:`paired_difference` for the p-value.
    """
    predictions = np.concatenate([first, second])
    samples = bootstrap_macro_f1(
        labels,
        predictions,
        num_classes=num_classes,
        groups=groups,
        num_resamples=num_resamples,
        seed=seed,
    )
    observed = macro_f1(labels, predictions, num_classes=num_classes)
    cut = len(first)
    return paired_difference(
        observed[:cut].mean() - observed[cut:].mean(),
        samples[:, :cut].mean(axis=1) - samples[:, cut:].mean(axis=1),
        level=level,
    )


def paired_difference(
    observed: float | np.floating, samples: Float[np.ndarray, " resamples"], *, level: float = LEVEL
) -> PairedDifference:
    """Judge a difference by the differences that resamples of the examples gave.

    The p-value is the smallest ``alpha`` whose percentile interval ``1 - alpha`` leaves out zero:
    ``2 * (1 + k) / (1 + R)``, at most 1, where ``k`` is the smaller number of the ``R`` differences
    on one side of zero, zero itself counted on both. It is never 0.

    Args:
        observed: the difference on the examples as they are.
        samples: the difference on each resample ``[R]``.
        level: share of the resamples between the ends of the interval.
    """
    low, high = percentile_interval(samples, level=level)
    fewer = min((samples <= 0).sum(), (samples >= 0).sum())
    p_value = min(1.0, 2 * (1 + int(fewer)) / (1 + len(samples)))
    return PairedDifference(float(observed), float(low), float(high), p_value)


def mcnemar(
    first_correct: Bool[np.ndarray, " n"],
    second_correct: Bool[np.ndarray, " n"],
    groups: Groups | None = None,
) -> McNemar:
    """Test whether two models are right equally often on the same examples (McNemar 1947).

    Examples of one lesion or patient are no independent ones. With their groups given, it is the
    modified Obuchowski test (Yang, Sun and Hardin 2010, doi:10.1002/bimj.201000035): where a model
    is right on ``d_k`` more examples of group ``k`` than the other, chi-square with one degree of
    freedom is ``(sum d_k)^2 / sum d_k^2``. With groups of one example it is McNemar's. Both have
    the continuity correction, for totals that lie two apart.

    With fewer than 25 groups in which the models differ it is exact: were they equal, each ``d_k``
    had its sign by the toss of a coin. The statistic is then the smaller of the two sums of leads;
    of examples without groups, that is the two-sided binomial test.

    Args:
        first_correct: whether the first model is right on each example ``[n]``.
        second_correct: whether the second is.
        groups: lesion or patient of each example, see
            :func:`lmf_jax.evaluation.resampling.resample`. None: all are independent.
    """
    ahead = first_correct.astype(int) - second_correct
    only_first, only_second = int((ahead > 0).sum()), int((ahead < 0).sum())
    leads = np.bincount(unit_codes(len(ahead), groups), ahead).astype(int)
    sizes, total = abs(leads[leads != 0]), abs(int(leads.sum()))
    if len(sizes) < FEW_DISCORDANT:
        fewer = (int(sizes.sum()) - total) // 2
        chances = np.ones(1)  # that the leads of one model sum up to 0, 1, 2, ...
        for size in sizes:
            chances = (np.pad(chances, (0, size)) + np.pad(chances, (size, 0))) / 2
        p_value = min(1.0, 2 * float(chances[: fewer + 1].sum()))
        return McNemar(only_first, only_second, float(fewer), p_value)
    statistic = max(total - 1, 0) ** 2 / int((sizes**2).sum())
    return McNemar(only_first, only_second, statistic, float(special.chdtrc(1, statistic)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct the p-values of several tests by Holm's step-down method (Holm 1979).

    If every test whose corrected value is below 0.05 is called a difference, the chance that any is
    called one without being one is at most 0.05.

    Args:
        p_values: of the tests, in any order.

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
    """Compute the mean of a metric over seeds, and its Student t-interval.

    The interval covers what the seed moves (initial weights, order, augmentation), on one test set.

    Args:
        values: the metric of each run, at least two.
        level: coverage of the interval, if the values are drawn from a normal distribution.

    Raises:
        ValueError: if there are fewer than two values.
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
    """Compute the mean difference of two losses over the same seeds, and its paired t-interval.

    Args:
        first: the metric of the first loss, by seed.
        second: that of the second loss, for the same seeds in the same order.
        level: coverage of the interval.

    Raises:
        ValueError: if the numbers of seeds differ, or there are fewer than two.
    """
    if len(first) != len(second):
        raise ValueError(f"There are {len(first)} and {len(second)} seeds; expected the same ones.")
    return mean_over_seeds(np.subtract(first, second).tolist(), level=level)


def _cells(
    labels: Integer[np.ndarray, " n"],
    predictions: Integer[np.ndarray, "*models n"],
    num_classes: int,
) -> Int[np.ndarray, "*models n"]:
    """Number the cells of the confusion matrix, row by row."""
    return labels.astype(int) * num_classes + predictions  # narrow integers would overflow


def _weighted_scores(
    arrays: tuple[Int[Array, " n"], Rankings, Calibration],
    weights: Float[Array, " n"],
    num_classes: int,
) -> Scores:
    cells, rankings, calibrated = arrays
    return Scores(
        classification=classification_metrics(_confusion(cells, weights, num_classes)),
        ranking=ranking_metrics(rankings, weights),
        ece=expected_calibration_error(calibrated, weights),
    )


def _weighted_macro_f1(
    cells: Int[Array, "models n"], weights: Float[Array, " n"], num_classes: int
) -> Float[Array, " models"]:
    confusions = jax.vmap(lambda row: _confusion(row, weights, num_classes))(cells)
    return jnp.asarray(jax.vmap(classification_metrics)(confusions).macro_f1)


def _confusion(
    cells: Int[Array, " n"], weights: Float[Array, " n"], num_classes: int
) -> Int[Array, "{num_classes} {num_classes}"]:
    counts = jnp.bincount(cells, weights, length=num_classes**2)
    return counts.astype(jnp.int32).reshape(num_classes, num_classes)
