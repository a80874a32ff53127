"""F1 of predicted labels, and the figures of the ODIR challenge.

A missing label, -1, counts nowhere.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Num

from lmf_jax.evaluation.multilabel.scores import Labels, check_labels, score_labels

ODIR_THRESHOLD = 0.5

Predictions = Bool[np.ndarray, "n labels"]
PerLabel = Float[np.ndarray, " labels"]
Numbers = Num[np.ndarray, "..."] | np.number


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
    macro: float
    micro: float
    samples: float
    precision: PerLabel
    recall: PerLabel


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
    check_labels(labels, np.zeros(labels.shape))
    present = labels != -1
    hits = (labels == 1) & predictions
    support = labels == 1
    predicted = predictions & present

    def f1(axis: int | None) -> Float[np.ndarray, "..."]:
        return _divide(2 * hits.sum(axis), support.sum(axis) + predicted.sum(axis))

    counted = present.any(axis=1)
    per_label = f1(0)
    return LabelF1(
        per_label=per_label,
        macro=float(per_label.mean()),
        micro=float(f1(None)),
        samples=float(_divide(f1(1)[counted].sum(), counted.sum())),
        precision=_divide(hits.sum(0), predicted.sum(0)),
        recall=_divide(hits.sum(0), support.sum(0)),
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


def _divide(numerators: Numbers, denominators: Numbers) -> Float[np.ndarray, "..."]:
    """Divide; 0 where the denominator, and so the numerator, is 0."""
    return np.asarray(numerators / np.where(denominators == 0, 1, denominators))
