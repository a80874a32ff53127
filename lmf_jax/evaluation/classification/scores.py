"""Metrics of predicted probabilities: AUROC, average precision and calibration.

Each metric is computed from arrays that are prepared once and from a weight per example, so that
thousands of resamples share one sort. NumPy arrays give float64 metrics; JAX arrays work under
``jit`` and ``vmap``.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer
from scipy import special

from lmf_jax.evaluation.classification.metrics import (
    ClassificationMetrics,
    Fraction,
    FractionPerClass,
    classification_metrics,
    confusion_matrix,
    predicted_classes,
)

NUM_BINS = 15
"""Number of bins of the calibration error, as in Guo et al."""

Weights = Float[Array | np.ndarray, " n"]


class Rankings(NamedTuple):
    """Examples sorted by decreasing evidence for each class.

    The rank of an example within its true class is ambiguous if examples have equal evidence; such
    a tie spans the ranks ``tie_first`` to ``tie_last``.

    Attributes:
        order: Index of the example at each rank of each class.
        positive: 1 if the example at that rank is of the class, else 0.
        member: 1 if the example is of the class, else 0, indexed by example instead of rank.
        own: True class of each example.
        tie_first: First rank of each example's tie in the ranking of its true class.
        tie_last: Last rank of the tie.
    """

    order: Int[Array | np.ndarray, "classes n"]
    positive: Float[Array | np.ndarray, "classes n"]
    member: Float[Array | np.ndarray, "classes n"]
    own: Integer[Array | np.ndarray, " n"]
    tie_first: Int[Array | np.ndarray, " n"]
    tie_last: Int[Array | np.ndarray, " n"]


class RankingMetrics(NamedTuple):
    """AUROC and average precision, one class against the rest; fractions in [0, 1]."""

    macro_auroc: Fraction
    macro_average_precision: Fraction
    auroc: FractionPerClass
    average_precision: FractionPerClass


class Calibration(NamedTuple):
    """Confidence, bin and correctness of the prediction of each example.

    Attributes:
        in_bin: 1 if the example's confidence lies in the bin, else 0.
        confidence: The largest probability.
        correct: 1 if its class is the true one, else 0.
    """

    in_bin: Float[Array | np.ndarray, "bins n"]
    confidence: Float[Array | np.ndarray, " n"]
    correct: Float[Array | np.ndarray, " n"]


class ReliabilityBins(NamedTuple):
    """Data of a reliability diagram, by bin of the largest probability.

    Attributes:
        edges: Edges of the bins from 0 to 1; a bin includes its upper edge.
        counts: Number of examples in each bin.
        confidence: Their mean largest probability; 0 if the bin is empty.
        accuracy: Their accuracy; 0 if the bin is empty.
    """

    edges: Float[np.ndarray, " edges"]
    counts: Int[np.ndarray, " bins"]
    confidence: Float[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]


class Scores(NamedTuple):
    """All metrics of a model on one part of the data."""

    classification: ClassificationMetrics
    ranking: RankingMetrics
    ece: Fraction


def softmax(logits: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, "n classes"]:
    """Return the class probabilities in float64, also for infinite logits.

    Args:
        logits: Scores ``[n, C]``, none NaN.
    """
    finite = _finite(logits)
    exponentials = np.exp(finite - finite.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def log_probabilities(
    probabilities: Float[np.ndarray, "*n classes"],
) -> Float[np.ndarray, "*n classes"]:
    """Return finite logarithms of probabilities, whose softmax is the probabilities again.

    Args:
        probabilities: Class probabilities ``[..., C]``, such as the mean of several models.
    """
    return np.log(probabilities.clip(min=np.finfo(np.float32).tiny))


def log_odds(logits: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, "n classes"]:
    """Return ``log(p / (1 - p))`` of each class against the rest, in float64.

    It orders examples as the probability ``p`` does, even where ``p`` rounds to 1.

    Args:
        logits: Scores ``[n, C]``, none NaN.
    """
    finite = _finite(logits)
    odds = np.zeros_like(finite)
    for class_id in range(finite.shape[1] if finite.shape[1] > 1 else 0):
        others = np.delete(finite, class_id, axis=1)
        odds[:, class_id] = finite[:, class_id] - special.logsumexp(others, axis=1)
    return odds


def _finite(logits: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, "n classes"]:
    largest = np.finfo(np.float32).max
    return logits.astype(np.float64).clip(-largest, largest)


def score(labels: Integer[np.ndarray, " n"], logits: Float[np.ndarray, "n classes"]) -> Scores:
    """Compute all metrics with equal weights.

    Args:
        labels: Class ids ``[n]``.
        logits: Scores ``[n, C]``.

    Returns:
        The metrics in float64; see the functions below for undefined ones.

    Raises:
        ValueError: If a logit is NaN.
    """
    once = np.ones(len(labels))
    confusion = confusion_matrix(labels, predicted_classes(logits), num_classes=logits.shape[-1])
    probabilities = softmax(logits)
    return Scores(
        classification=classification_metrics(np.asarray(confusion)),
        ranking=ranking_metrics(rank_by_class(labels, log_odds(logits)), once),
        ece=expected_calibration_error(calibration(labels, probabilities), once),
    )


def has_counterexamples(
    labels: Integer[np.ndarray, " n"], num_classes: int
) -> Bool[np.ndarray, " {num_classes}"]:
    """Return which classes have both examples and counterexamples.

    For the others, AUROC and average precision are undefined.
    """
    support = np.bincount(labels, minlength=num_classes)
    return (support > 0) & (support < len(labels))


def rank_by_class(
    labels: Integer[np.ndarray, " n"], evidence: Float[np.ndarray, "n classes"]
) -> Rankings:
    """Sort the examples by the evidence for each class, once for all resamples.

    Args:
        labels: Class ids ``[n]``.
        evidence: Log-odds of the classes ``[n, C]``, or another score that increases with them.
    """
    num_classes = evidence.shape[-1]
    order = np.argsort(-evidence.T, axis=1, kind="stable")
    member = labels == np.arange(num_classes)[:, None]
    tie_first, tie_last = np.empty(len(labels), int), np.empty(len(labels), int)
    for class_id, examples in enumerate(member):
        falling = -evidence[:, class_id]
        rising = np.sort(falling)
        tie_first[examples] = np.searchsorted(rising, falling[examples], side="left")
        tie_last[examples] = np.searchsorted(rising, falling[examples], side="right") - 1
    return Rankings(
        order=order,
        positive=np.take_along_axis(member, order, axis=1).astype(np.float32),
        member=member.astype(np.float32),
        own=labels,
        tie_first=tie_first,
        tie_last=tie_last,
    )


def ranking_metrics(rankings: Rankings, weights: Weights) -> RankingMetrics:
    """Compute AUROC and average precision of each class against the rest, ties counted exactly.

    AUROC is the probability that an example of the class has a larger predicted probability of it
    than one of another class, a tie counting one half (Hanley and McNeil 1982). Average precision
    is ``sum_k (recall_k - recall_(k-1)) * precision_k`` over the distinct probabilities, largest
    first, without interpolation, as in scikit-learn. Both are undefined for a class without an
    example or counterexample (see :func:`has_counterexamples`): the values are 0, and the macro
    means leave the class out.

    Args:
        rankings: Output of :func:`rank_by_class`.
        weights: Weight of each example ``[n]``.

    Returns:
        The metrics; those per class have shape ``[C]``.
    """
    own, first, last = rankings.own, rankings.tie_first, rankings.tie_last
    weights_by_rank = weights[rankings.order]
    positives_by_rank = weights_by_rank * rankings.positive
    negatives_by_rank = weights_by_rank - positives_by_rank
    # Sums of integers are exact in float32 up to 16 million.
    positives = positives_by_rank.cumsum(axis=1)
    negatives = negatives_by_rank.cumsum(axis=1)
    num_positives, num_negatives = positives[:, -1], negatives[:, -1]

    # For each example, in the ranking of its true class.
    negatives_above = (negatives - negatives_by_rank)[own, first]
    negatives_through = negatives[own, last]
    positives_through = positives[own, last]
    beaten = num_negatives[own] - (negatives_above + negatives_through) / 2
    chance = beaten / num_negatives[own].clip(min=1)
    precision = positives_through / (positives_through + negatives_through).clip(min=1)

    # The division comes last, so that a perfect ranking gives exactly 1.
    auroc = (rankings.member * (weights * chance)[None]).sum(axis=1) / num_positives.clip(min=1)
    average_precision = (rankings.member * (weights * precision)[None]).sum(axis=1)
    average_precision /= num_positives.clip(min=1)
    defined = (num_positives * num_negatives).clip(max=1)  # 1 or 0.
    num_defined = defined.sum().clip(min=1)
    return RankingMetrics(
        macro_auroc=(auroc * defined).sum() / num_defined,
        macro_average_precision=(average_precision * defined).sum() / num_defined,
        auroc=auroc * defined,
        average_precision=average_precision * defined,
    )


def calibration(
    labels: Integer[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]
) -> Calibration:
    """Assign the largest probability of each example to one of 15 bins of equal width.

    Args:
        labels: Class ids ``[n]``.
        probabilities: Class probabilities ``[n, C]``.
    """
    confidence = probabilities.max(axis=-1)
    # A bin includes its upper edge, as in Guo et al.
    bins = (np.ceil(confidence * NUM_BINS) - 1).clip(0, NUM_BINS - 1)
    return Calibration(
        in_bin=(bins == np.arange(NUM_BINS)[:, None]).astype(np.float32),
        confidence=confidence,
        correct=(probabilities.argmax(axis=-1) == labels).astype(np.float32),
    )


def expected_calibration_error(calibrated: Calibration, weights: Weights) -> Fraction:
    """Compute the expected calibration error of the largest probability (ECE).

    ``sum_b (n_b / n) * |accuracy_b - confidence_b|`` over 15 bins of equal width: Guo et al., "On
    Calibration of Modern Neural Networks", 2017, Eq. 3.

    Args:
        calibrated: Output of :func:`calibration`.
        weights: Weight of each example ``[n]``.
    """
    gap = weights * (calibrated.correct - calibrated.confidence)
    return abs((calibrated.in_bin * gap[None]).sum(axis=1)).sum() / weights.sum()


def reliability_bins(
    labels: Integer[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]
) -> ReliabilityBins:
    """Compute confidence and accuracy by bin, for a reliability diagram.

    Args:
        labels: Class ids ``[n]``.
        probabilities: Class probabilities ``[n, C]``.

    Returns:
        The 15 bins of :func:`expected_calibration_error`.
    """
    in_bin, confidence, correct = map(np.asarray, calibration(labels, probabilities))
    counts = in_bin.sum(axis=1)
    return ReliabilityBins(
        edges=np.linspace(0, 1, NUM_BINS + 1),
        counts=counts.astype(int),
        confidence=(in_bin * confidence).sum(axis=1) / counts.clip(min=1),
        accuracy=(in_bin * correct).sum(axis=1) / counts.clip(min=1),
    )
