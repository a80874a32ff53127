"""AUROC and average precision of each label, and their means.

They are computed from arrays that are prepared once and from a weight per example, so that
thousands of resamples share one sort. NumPy arrays give float64 metrics; JAX arrays work under
``jit`` and ``vmap``.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer
from scipy import special

Labels = Integer[np.ndarray, "n labels"]
"""0 or 1 for each example and label; -1 where the label is missing."""
Logits = Float[np.ndarray, "n labels"]
Weights = Float[Array | np.ndarray, " n"]
Mean = Float[Array | np.ndarray, "*batch"] | np.floating
PerLabel = Float[Array | np.ndarray, "*batch labels"]


class LabelRankings(NamedTuple):
    """Examples sorted by decreasing logit of each label; each array is by label and rank.

    Attributes:
        order: Index of the example at the rank.
        positive: 1 if the example has the label, else 0, also where the label is missing.
        negative: 1 if it does not have the label, else 0, also where the label is missing.
        tie_first: First rank of the examples with the same logit.
        tie_last: Last rank of them.
    """

    order: Int[Array | np.ndarray, "labels n"]
    positive: Float[Array | np.ndarray, "labels n"]
    negative: Float[Array | np.ndarray, "labels n"]
    tie_first: Int[Array | np.ndarray, "labels n"]
    tie_last: Int[Array | np.ndarray, "labels n"]


class LabelRankingMetrics(NamedTuple):
    """AUROC and average precision, fractions in [0, 1].

    Both are NaN for a label without a positive or without a negative example. The means leave such
    labels out; they are NaN if all are.
    """

    mean_auroc: Mean
    mean_average_precision: Mean
    auroc: PerLabel
    average_precision: PerLabel


def sigmoid(logits: Float[np.ndarray, "*n labels"]) -> Float[np.ndarray, "*n labels"]:
    """Return the probability of each label in float64."""
    exact = logits.astype(np.float64)
    powers = np.exp(-abs(exact))
    return np.where(exact < 0, powers, 1) / (1 + powers)


def logits_of(probabilities: Float[np.ndarray, "*n labels"]) -> Float[np.ndarray, "*n labels"]:
    """Return finite logits in float64 whose sigmoid are the probabilities."""
    smallest, epsilon = np.finfo(np.float32).tiny, np.finfo(np.float64).eps
    clipped = probabilities.astype(np.float64).clip(smallest, 1 - epsilon)
    return np.asarray(special.logit(clipped))


def has_both_values(labels: Labels) -> Bool[np.ndarray, " labels"]:
    """Return which labels have a positive and a negative example."""
    return (labels == 1).any(axis=0) & (labels == 0).any(axis=0)


def rank_by_label(labels: Labels, logits: Logits) -> LabelRankings:
    """Sort the examples by the logit of each label, once for all resamples.

    Args:
        labels: 0, 1 or -1 for a missing label, ``[n, C]``.
        logits: Logits or another score that increases with them, ``[n, C]``. Those of missing
            labels are not used.

    Raises:
        ValueError: If a logit whose label is present is NaN, or a label is not 0, 1 or -1.
    """
    check_labels(labels, logits)
    falling = -np.where(labels == -1, 0, logits).T
    order = np.argsort(falling, axis=1, kind="stable")
    sorted_scores = np.take_along_axis(falling, order, axis=1)
    ties = [
        [np.searchsorted(row, row, side="left"), np.searchsorted(row, row, side="right") - 1]
        for row in sorted_scores
    ]
    first, last = np.array(ties, int).reshape(labels.shape[1], 2, -1).swapaxes(0, 1)
    of_rank = np.take_along_axis(labels.T, order, axis=1)
    return LabelRankings(
        order=order,
        positive=(of_rank == 1).astype(np.float32),
        negative=(of_rank == 0).astype(np.float32),
        tie_first=first,
        tie_last=last,
    )


def label_ranking_metrics(rankings: LabelRankings, weights: Weights) -> LabelRankingMetrics:
    """Compute AUROC and average precision of each label and their means, ties counted exactly.

    The definitions are those of :func:`lmf_jax.evaluation.classification.scores.ranking_metrics`
    and of scikit-learn. The mean of the average precisions is the mAP.

    Args:
        rankings: Output of :func:`rank_by_label`.
        weights: Weight of each example ``[n]``.
    """
    by_rank = weights[rankings.order]
    positive, negative = by_rank * rankings.positive, by_rank * rankings.negative
    positives, negatives = positive.cumsum(axis=1), negative.cumsum(axis=1)
    rows = np.arange(len(positive))[:, None]
    num_positives, num_negatives = positives[:, -1], negatives[:, -1]
    negatives_above = (negatives - negative)[rows, rankings.tie_first]
    negatives_through = negatives[rows, rankings.tie_last]
    positives_through = positives[rows, rankings.tie_last]
    beaten = num_negatives[:, None] - (negatives_above + negatives_through) / 2
    precision = positives_through / (positives_through + negatives_through).clip(min=1)
    defined = (num_positives * num_negatives).clip(max=1)  # 1 or 0.
    undefined_as_nan = _nan_where_zero(defined)
    # The division comes last, so that a perfect ranking gives exactly 1.
    pairs = (num_positives * num_negatives).clip(min=1)
    auroc = (positive * beaten).sum(axis=1) / pairs
    average_precision = (positive * precision).sum(axis=1) / num_positives.clip(min=1)
    num_defined = _nan_where_zero(defined.sum().clip(max=1)) * defined.sum().clip(min=1)
    return LabelRankingMetrics(
        mean_auroc=(auroc * defined).sum() / num_defined,
        mean_average_precision=(average_precision * defined).sum() / num_defined,
        auroc=auroc * undefined_as_nan,
        average_precision=average_precision * undefined_as_nan,
    )


def score_labels(labels: Labels, logits: Logits) -> LabelRankingMetrics:
    """Compute :func:`label_ranking_metrics` with equal weights, in float64.

    Args:
        labels: 0, 1 or -1 for a missing label, ``[n, C]``.
        logits: ``[n, C]``.

    Raises:
        ValueError: As :func:`rank_by_label`.
    """
    return label_ranking_metrics(rank_by_label(labels, logits), np.ones(len(labels)))


def check_labels(labels: Labels, logits: Float[np.ndarray, "n labels"]) -> None:
    """Raise ValueError if there is no example, a label is not 0, 1 or -1, or a score is NaN."""
    if len(labels) == 0:
        raise ValueError("There are no examples to measure; expected at least one.")
    if not np.isin(labels, (-1, 0, 1)).all():
        raise ValueError(
            f"The labels run from {labels.min()} to {labels.max()}; expected 0, 1 or -1 for a "
            "missing label."
        )
    num_undefined = int((np.isnan(logits) & (labels != -1)).any(axis=1).sum())
    if num_undefined:
        raise ValueError(
            f"The logits of {num_undefined} of {len(logits)} examples contain NaN; check for "
            "diverged training or broken weights."
        )


def _nan_where_zero(indicator: Any) -> Any:
    """Return 1 where an indicator is 1, and NaN where it is 0."""
    with np.errstate(invalid="ignore"):
        return indicator / indicator
