"""Bootstrap intervals of the ranking metrics, and a paired test of two models' mAP."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from lmf_jax.evaluation.multilabel.metrics import (
    LabelF1,
    PredictionCounts,
    Predictions,
    count_predictions,
    weighted_f1,
)
from lmf_jax.evaluation.multilabel.scores import (
    LabelRankingMetrics,
    LabelRankings,
    Labels,
    Logits,
    label_ranking_metrics,
    rank_by_label,
    score_labels,
)
from lmf_jax.evaluation.permutation import exchanges
from lmf_jax.evaluation.resampling import (
    LEVEL,
    MAX_ELEMENTS,
    NUM_RESAMPLES,
    Groups,
    percentile_interval,
    resample,
    unit_codes,
)
from lmf_jax.evaluation.statistics import PairedDifference

_TOLERANCE = 1e-6
"""Of equal differences, which float32 rounds."""


class _Pair(NamedTuple):
    first: LabelRankings
    second: LabelRankings


def ranking_intervals(
    labels: Labels,
    logits: Logits,
    *,
    groups: Groups | None = None,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> LabelRankingMetrics:
    """Compute bootstrap percentile intervals of AUROC, average precision and their means.

    With groups, a resample draws whole patients with all their images. Resamples are stratified by
    the rarest positive label, so that a rare label seldom loses its positives; one that does is
    left out of the means of that resample, and of its own interval.

    Args:
        labels: 0, 1 or -1 for a missing label, ``[n, C]``.
        logits: ``[n, C]``.
        groups: Patient of each example ``[n]``; "" for examples without one, None if all are
            independent.
        level: Nominal coverage, in (0, 1).
        num_resamples: Number of resamples.
        seed: Seed of the resamples.

    Returns:
        The metrics with a leading axis of low and high; NaN where the metric is undefined.

    Raises:
        ValueError: As :func:`lmf_jax.evaluation.multilabel.scores.rank_by_label`.
    """
    samples = ranking_samples(labels, logits, groups=groups, num_resamples=num_resamples, seed=seed)
    return jax.tree.map(partial(defined_interval, level=level), samples)


def ranking_samples(
    labels: Labels,
    logits: Logits,
    *,
    groups: Groups | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> LabelRankingMetrics:
    """Compute AUROC, average precision and their means of bootstrap resamples.

    Arguments and exceptions are those of :func:`ranking_intervals`.

    Returns:
        The metrics with a leading axis of resamples; NaN where a metric is undefined.
    """
    samples: LabelRankingMetrics = resample(
        _weighted_ranking,
        rank_by_label(labels, logits),
        strata(labels),
        labels.shape[1] + 1,
        groups=groups,
        num_resamples=num_resamples,
        seed=seed,
    )
    return samples


def defined_interval(samples: np.ndarray, *, level: float) -> Float[np.ndarray, "2 ..."]:
    """Return the percentile interval of the samples that are not NaN; NaN if all are."""
    columns = samples.reshape(len(samples), -1).T
    ends = [
        percentile_interval(column[~np.isnan(column)], level=level)
        if not np.isnan(column).all()
        else np.full(2, np.nan)
        for column in columns
    ]
    return np.stack(ends, axis=1).reshape(2, *samples.shape[1:])


def f1_intervals(
    labels: Labels,
    predictions: Predictions,
    *,
    groups: Groups | None = None,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> LabelF1:
    """Compute bootstrap percentile intervals of F1, precision and recall of predicted labels.

    The resamples are those of :func:`ranking_intervals`. The thresholds are fixed, so the intervals
    do not cover their choice.

    Args:
        labels: 0, 1 or -1 for a missing label, ``[n, C]``.
        predictions: Whether each label is predicted ``[n, C]``.
        groups: Patient of each example, see :func:`ranking_intervals`.
        level: Nominal coverage, in (0, 1).
        num_resamples: Number of resamples.
        seed: Seed of the resamples.

    Returns:
        The metrics of :func:`lmf_jax.evaluation.multilabel.metrics.label_f1` with a leading axis of
        low and high.
    """
    samples = resample(
        _weighted_f1,
        count_predictions(labels, predictions),
        strata(labels),
        labels.shape[1] + 1,
        groups=groups,
        num_resamples=num_resamples,
        seed=seed,
    )
    return jax.tree.map(partial(percentile_interval, level=level), samples)


def strata(labels: Labels) -> Int[np.ndarray, " n"]:
    """Return the rarest positive label of each example, and C for an example without one."""
    counts = (labels == 1).sum(axis=0)
    rarity = np.where(labels == 1, counts, len(labels) + 1)
    return np.where((labels == 1).any(axis=1), rarity.argmin(axis=1), labels.shape[1])


def compare_mean_average_precision(
    labels: Labels,
    first: Logits,
    second: Logits,
    *,
    groups: Groups | None = None,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    """Compare the mAP of two models on the same examples.

    Args:
        labels: 0, 1 or -1 for a missing label, ``[n, C]``.
        first: Logits of the first model ``[n, C]``.
        second: Logits of the second model ``[n, C]``.
        groups: Patient of each example, see :func:`ranking_intervals`.
        level: Nominal coverage of the interval, in (0, 1).
        num_resamples: Number of resamples of the interval.
        seed: Seed of the resamples and of the permutations.

    Returns:
        First minus second, with the bootstrap percentile interval of the difference and the p-value
        of :func:`mean_average_precision_test`; all NaN if no label has both values.

    Raises:
        ValueError: As :func:`lmf_jax.evaluation.multilabel.scores.rank_by_label`.
    """
    means = [score_labels(labels, logits).mean_average_precision for logits in (first, second)]
    difference = float(means[0] - means[1])
    if np.isnan(difference):
        return PairedDifference(*[float("nan")] * 4)
    samples = resample(
        _difference,
        _Pair(rank_by_label(labels, first), rank_by_label(labels, second)),
        strata(labels),
        labels.shape[1] + 1,
        groups=groups,
        num_resamples=num_resamples,
        seed=seed,
    )
    low, high = defined_interval(samples, level=level)
    p_value = mean_average_precision_test(labels, first, second, groups=groups, seed=seed)
    return PairedDifference(difference, float(low), float(high), p_value)


def mean_difference(differences: Sequence[PairedDifference]) -> PairedDifference:
    """Return the mean difference, the mean ends of its interval, and the largest p-value."""
    difference, low, high, _ = np.mean(differences, axis=0).tolist()
    return PairedDifference(difference, low, high, max(d.p_value for d in differences))


def mean_average_precision_test(
    labels: Labels,
    first: Logits,
    second: Logits,
    *,
    groups: Groups | None = None,
    seed: int = 0,
) -> float:
    """Test whether two models have the same mAP, by exchanging their ranks.

    Each model's logits of a label are replaced by their ranks, since two models may have logits of
    different scales. Under the null hypothesis the ranks of an example, or of all examples of a
    patient, are exchangeable between the models (Venkatraman and Begg 1996).

    Args:
        labels: 0, 1 or -1 for a missing label, ``[n, C]``; a label has both values.
        first: Logits of the first model ``[n, C]``.
        second: Logits of the second model ``[n, C]``.
        groups: Patient of each example, whose ranks are exchanged together.
        seed: Seed of the random exchanges.

    Returns:
        The two-sided p-value, in (0, 1].
    """
    ranks = [_ranks(labels, logits) for logits in (first, second)]
    units = np.unique(unit_codes(len(labels), groups), return_inverse=True)[1]
    differing = np.unique(units[(ranks[0] != ranks[1]).any(axis=1)])
    # One ranking of the examples of both models; a weight of 0 or 1 selects those of a side.
    pooled = rank_by_label(np.concatenate([labels, labels]), np.concatenate(ranks))
    batch_size = max(1, MAX_ELEMENTS // pooled.order.size)  # bounds the memory
    num_as_large = num_draws = 0
    observed = None
    for draws in exchanges(len(differing), seed):
        exchanged = np.zeros((len(draws), int(units.max()) + 1), np.float32)
        exchanged[:, differing] = draws
        at_once = min(batch_size, len(draws))
        found = np.asarray(_exchanged_differences(pooled, exchanged, units, batch_size=at_once))
        observed = abs(found[0]) if observed is None else observed  # the first draw exchanges none
        num_as_large += int((abs(found) >= observed - _TOLERANCE).sum())
        num_draws += len(found)
    return num_as_large / num_draws


@partial(jax.jit, static_argnames="batch_size")
def _exchanged_differences(
    pooled: LabelRankings,
    exchanged: Float[Array | np.ndarray, "draws units"],
    units: Int[Array | np.ndarray, " n"],
    *,
    batch_size: int,
) -> Float[Array, " draws"]:
    def difference(of_units: Float[Array, " units"]) -> Float[Array, ""]:
        swapped = of_units[units]
        sides = [jnp.concatenate([1 - swapped, swapped]), jnp.concatenate([swapped, 1 - swapped])]
        means = [label_ranking_metrics(pooled, side).mean_average_precision for side in sides]
        return jnp.asarray(means[0] - means[1])

    return jax.lax.map(difference, exchanged, batch_size=batch_size)


def _ranks(labels: Labels, logits: Logits) -> Float[np.ndarray, "n labels"]:
    """Return the mean rank of each logit among those of its label; 0 for missing labels."""
    ranks = np.zeros(labels.shape)
    for column, present in enumerate((labels != -1).T):
        _, places, counts = np.unique(
            logits[present, column], return_inverse=True, return_counts=True
        )
        ranks[present, column] = (counts.cumsum() - (counts - 1) / 2)[places]
    return ranks


def _weighted_ranking(
    rankings: LabelRankings, weights: Float[Array, " n"], _: int
) -> LabelRankingMetrics:
    return label_ranking_metrics(rankings, weights)


def _weighted_f1(counts: PredictionCounts, weights: Float[Array, " n"], _: int) -> LabelF1:
    return weighted_f1(counts, weights)


def _difference(pair: _Pair, weights: Float[Array, " n"], _: int) -> Float[Array, ""]:
    first, second = (label_ranking_metrics(rankings, weights) for rankings in pair)
    return jnp.asarray(first.mean_average_precision - second.mean_average_precision)
