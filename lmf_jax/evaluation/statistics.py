"""How far a test can be trusted: bootstrap intervals, paired tests and means over seeds.

The bootstrap is stratified: a resample draws from each true class, with replacement, as many
examples as the class has (Efron and Tibshirani 1993, chapters 8 and 13). A rare class is then never
absent, and the class counts, which are part of the design of the test, stay as they are.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer, Key, Num, Shaped
from scipy import special

from lmf_jax.evaluation.metrics import classification_metrics, macro_f1, predicted_classes
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

LEVEL = 0.95
NUM_RESAMPLES = 2000
Groups = Shaped[np.ndarray, " n"]
"""Name of the lesion or patient of each example, unicode."""

MAX_ELEMENTS = 2**23
"""Size of the arrays of the resamples that are computed at a time: 32 MB in float32."""


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


def resample(
    metrics: Callable[[Any, Float[Array, " n"], int], Any],
    arrays: Any,
    labels: Integer[np.ndarray, " n"],
    num_classes: int,
    *,
    groups: Groups | None = None,
    num_resamples: int,
    seed: int,
) -> Any:
    """Compute any metrics on stratified resamples of the examples.

    Images of one lesion or patient are no independent examples. With their groups given, a resample
    draws from each class as many groups as it has there, each with all its examples of the class.

    Args:
        metrics: called as ``metrics(arrays, weights, num_classes)`` under ``jit`` and ``vmap``,
            where the weights ``[n]`` say how often each example was drawn. A function of a module,
            not a lambda, is compiled once.
        arrays: what the metrics are computed from, any tree of arrays.
        labels: class ids ``[n]``.
        num_classes: number of classes ``C`` of the dataset.
        groups: name of the group of each example ``[n]``; "" for one that has none. None: every
            example stands for itself.
        num_resamples: resamples ``R``.
        seed: of the resamples; equal seeds draw equal ones.

    Returns:
        What ``metrics`` returns, as NumPy arrays with a leading axis ``[R, ...]``.
    """
    # A resample needs a few times the memory of the arrays.
    elements = sum(np.size(leaf) for leaf in jax.tree.leaves(arrays))
    num_chunks = -(-num_resamples * elements // MAX_ELEMENTS)
    chunk_size = -(-num_resamples // num_chunks)
    samples = _resample_in_chunks(
        metrics,
        arrays,
        _strata(labels, groups),
        jax.random.key(seed),
        num_classes=num_classes,
        num_chunks=min(num_chunks, num_resamples),
        chunk_size=chunk_size,
    )
    return jax.tree.map(lambda sample: np.asarray(sample)[:num_resamples], samples)


def _strata(
    labels: Integer[np.ndarray, " n"], groups: Groups | None
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " units"], Int[np.ndarray, " units"]]:
    """Return what is drawn as one: the unit of each example, and the units of each one's class.

    Units are numbered by class; those of a unit's class run from ``start`` to ``stop``.
    """
    n = len(labels)
    codes = np.arange(n)
    if groups is not None:
        codes = np.where(groups == "", codes, n + np.unique(groups, return_inverse=True)[1])
    units, unit_of = np.unique(labels.astype(int) * (2 * n) + codes, return_inverse=True)
    class_of = units // (2 * n)
    counts = np.bincount(class_of)
    stop = counts.cumsum()[class_of]
    return unit_of, stop - counts[class_of], stop


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
    first_correct: Bool[np.ndarray, " n"], second_correct: Bool[np.ndarray, " n"]
) -> McNemar:
    """Test whether two models are right equally often on the same examples (McNemar 1947).

    With fewer than 25 examples on which only one is right, the exact two-sided binomial test, whose
    statistic is the smaller of the two counts; else chi-square with one degree of freedom and
    continuity correction.

    Args:
        first_correct: whether the first model is right on each example ``[n]``.
        second_correct: whether the second is.
    """
    only_first = int((first_correct & ~second_correct).sum())
    only_second = int((second_correct & ~first_correct).sum())
    discordant = only_first + only_second
    if discordant < 25:
        fewer = min(only_first, only_second)
        p_value = min(1.0, 2 * float(special.bdtr(fewer, discordant, 0.5)))
        return McNemar(only_first, only_second, float(fewer), p_value)
    statistic = (abs(only_first - only_second) - 1) ** 2 / discordant
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


def percentile_interval(
    samples: Num[np.ndarray, "..."], *, level: float = LEVEL
) -> Float[np.ndarray, "2 ..."]:
    """Return the two ends ``[2, ...]`` between which the middle ``level`` of ``[R, ...]`` lies."""
    return np.quantile(samples, [(1 - level) / 2, (1 + level) / 2], axis=0)


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


@partial(jax.jit, static_argnames=("metrics", "num_classes", "num_chunks", "chunk_size"))
def _resample_in_chunks(
    metrics: Callable[[Any, Float[Array, " n"], int], Any],
    arrays: Any,
    strata: tuple[Int[Array, " n"], Int[Array, " units"], Int[Array, " units"]],
    key: Key[Array, ""],
    *,
    num_classes: int,
    num_chunks: int,
    chunk_size: int,
) -> Any:
    def one(number: Int[Array, ""]) -> Any:
        # By its number, so that a resample does not depend on the size of the chunks.
        weights = _draw_weights(jax.random.fold_in(key, number), *strata)
        return metrics(arrays, weights, num_classes)

    numbers = jnp.arange(num_chunks * chunk_size).reshape(num_chunks, chunk_size)
    samples = jax.lax.map(jax.vmap(one), numbers)
    return jax.tree.map(lambda sample: sample.reshape(-1, *sample.shape[2:]), samples)


def _draw_weights(
    key: Key[Array, ""],
    unit_of: Int[Array, " n"],
    start: Int[Array, " units"],
    stop: Int[Array, " units"],
) -> Float[Array, " n"]:
    """Draw as many units of each class as it has; return how often each example was drawn.

    Args:
        key: of the draw.
        unit_of: what each example is drawn with.
        start: for each unit, where those of its class begin.
        stop: where they end.
    """
    drawn = jax.random.randint(key, start.shape, start, stop)
    return jnp.bincount(drawn, length=len(start)).astype(jnp.float32)[unit_of]
