"""F1 of predicted labels, and the figures of the ODIR challenge.

A missing label, -1, counts nowhere.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Num

from lmf_jax.evaluation.multilabel.scores import Labels, Weights, check_labels, score_labels

ODIR_THRESHOLD = 0.5

Predictions = Bool[np.ndarray, "n labels"]
Mean = float | Float[Array | np.ndarray, "*batch"] | np.floating
PerLabel = Float[Array | np.ndarray, "*batch labels"]
Numbers = Num[Array | np.ndarray, "..."] | np.number


class LabelF1(NamedTuple):
    """F1 of predicted labels, fractions in [0, 1].

    Attributes:
        per_label: F1, precision and recall come from the counts of each label.
        macro: Mean over the labels.
        micro: F1 of the counts of all labels together.
        samples: Mean over the examples of the F1 of their labels.
        precision: By label.
        recall: By label.
    """

    per_label: PerLabel
    macro: Mean
    micro: Mean
    samples: Mean
    precision: PerLabel
    recall: PerLabel


class PredictionCounts(NamedTuple):
    """Indicators of the labels of each example, 0 or 1.

    Attributes:
        hits: The label is present and predicted.
        support: It is present.
        predicted: It is predicted, and not missing.
        counted: The example has a label that is not missing.
    """

    hits: Float[Array | np.ndarray, "n labels"]
    support: Float[Array | np.ndarray, "n labels"]
    predicted: Float[Array | np.ndarray, "n labels"]
    counted: Float[Array | np.ndarray, " n"]


class OdirFigures(NamedTuple):
    """Figures of the ODIR-2019 challenge on all labels as one list; NaN if undefined."""

    kappa: float
    f1: float
    auc: float
    final: float


def label_f1(labels: Labels, predictions: Predictions) -> LabelF1:
    """Compute F1 per label, and its macro, micro and samples means.

    A figure with a zero denominator is 0, as with ``zero_division=0`` in scikit-learn: a label that
    is neither present nor predicted has F1 0, and so has an example without a positive label if
    none is predicted. An example whose labels are all missing is left out.

    Args:
        labels: 0, 1 or -1 for a missing label, ``[n, C]``.
        predictions: Whether each label is predicted ``[n, C]``.

    Raises:
        ValueError: If there is no example or a label is not 0, 1 or -1.
    """
    counts = count_predictions(labels, predictions)
    counts = PredictionCounts(*(count.astype(np.float64) for count in counts))
    f1 = weighted_f1(counts, np.ones(len(labels)))
    return f1._replace(macro=float(f1.macro), micro=float(f1.micro), samples=float(f1.samples))


def count_predictions(labels: Labels, predictions: Predictions) -> PredictionCounts:
    """Count the labels of each example that are present, predicted, and both.

    Args:
        labels: 0, 1 or -1 for a missing label, ``[n, C]``.
        predictions: Whether each label is predicted ``[n, C]``.

    Raises:
        ValueError: As :func:`label_f1`.
    """
    check_labels(labels, np.zeros(labels.shape))
    present = labels != -1
    return PredictionCounts(
        hits=((labels == 1) & predictions).astype(np.float32),
        support=(labels == 1).astype(np.float32),
        predicted=(predictions & present).astype(np.float32),
        counted=present.any(axis=1).astype(np.float32),
    )


def weighted_f1(counts: PredictionCounts, weights: Weights) -> LabelF1:
    """Compute :func:`label_f1` with a weight per example; works under ``jit`` and ``vmap``.

    Args:
        counts: Output of :func:`count_predictions`.
        weights: Weight of each example ``[n]``, a whole number.
    """
    hits, support, predicted, counted = counts
    of_labels = [(weights[:, None] * count).sum(axis=0) for count in (hits, support, predicted)]
    of_examples = _divide(2 * hits.sum(axis=1), support.sum(axis=1) + predicted.sum(axis=1))
    per_label = _divide(2 * of_labels[0], of_labels[1] + of_labels[2])
    totals = [of_label.sum() for of_label in of_labels]
    return LabelF1(
        per_label=per_label,
        macro=per_label.mean(),
        micro=_divide(2 * totals[0], totals[1] + totals[2]),
        samples=_divide((weights * of_examples * counted).sum(), (weights * counted).sum()),
        precision=_divide(of_labels[0], of_labels[2]),
        recall=_divide(of_labels[0], of_labels[1]),
    )


def odir_figures(labels: Labels, probabilities: Float[np.ndarray, "n labels"]) -> OdirFigures:
    """Compute kappa, F1, AUC and their mean as the evaluation of the ODIR-2019 challenge does.

    All labels of all examples form one list of binary labels. A label is predicted if its
    probability is above 0.5. ``f1`` is scikit-learn's with ``average="micro"``, which is the
    accuracy of a binary list.

    Args:
        labels: 0, 1 or -1 for a missing label, ``[n, C]``.
        probabilities: ``[n, C]``.

    Returns:
        The figures. ``kappa`` is NaN if all labels and predictions are equal, ``auc`` if all labels
        are; ``final`` is then NaN too.

    Raises:
        ValueError: If there is no example, a label is not 0, 1 or -1, or a probability is NaN.
    """
    check_labels(labels, probabilities)
    present = labels != -1
    truth, scores = labels[present], probabilities[present]
    predicted = scores > ODIR_THRESHOLD
    if not len(truth):
        return OdirFigures(np.nan, np.nan, np.nan, np.nan)
    accuracy = float(np.mean(predicted == (truth == 1)))
    of_truth, of_predicted = float(np.mean(truth == 1)), float(np.mean(predicted))
    by_chance = of_truth * of_predicted + (1 - of_truth) * (1 - of_predicted)
    kappa = (accuracy - by_chance) / (1 - by_chance) if by_chance < 1 else np.nan
    auc = float(score_labels(truth[:, None], scores[:, None]).auroc[0])
    return OdirFigures(kappa, accuracy, auc, (kappa + accuracy + auc) / 3)


def _divide(numerators: Numbers, denominators: Numbers) -> Any:
    """Divide counts; 0 where the denominator, and so the numerator, is 0."""
    return numerators / denominators.clip(min=1)
