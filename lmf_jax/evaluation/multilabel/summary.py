"""Summary of a multi-label test: every metric, as in ``test.json``."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from lmf_jax.evaluation.multilabel.metrics import LabelF1, label_f1, odir_figures
from lmf_jax.evaluation.multilabel.scores import (
    LabelRankingMetrics,
    Labels,
    Logits,
    score_labels,
    sigmoid,
)
from lmf_jax.evaluation.multilabel.statistics import f1_intervals, ranking_intervals
from lmf_jax.evaluation.resampling import Groups
from lmf_jax.evaluation.summary import SEED, check_class_names, describe_intervals

F1_MEANS = ("macro", "micro", "samples")


def summarize_test(
    labels: Labels,
    logits: Logits,
    label_names: Sequence[str],
    thresholds: Float[np.ndarray, " labels"] | Float[np.ndarray, "n labels"],
    groups: Groups | None = None,
) -> dict[str, Any]:
    """Compute every metric of the predictions, as ``test.json`` stores them.

    Args:
        labels: 0, 1 or -1 for a missing label, ``[n, C]``.
        logits: ``[n, C]``; the thresholds belong to their sigmoid.
        label_names: The ``C`` unique names.
        thresholds: Of the probability of each label ``[C]``, from
            :func:`lmf_jax.evaluation.multilabel.f1_thresholds` on validation; ``[n, C]`` if they
            differ by example, as in a cross-validation.
        groups: Patient of each example ``[n]``; the intervals then resample patients.

    Returns:
        ``mean_average_precision``, ``mean_auroc``, ``macro_f1``, ``micro_f1`` and ``samples_f1`` at
        the thresholds, ``odir`` (``kappa``, ``f1``, ``auc``, ``final``); ``per_label``: for each
        name ``auroc``, ``average_precision``, ``f1``, ``precision``, ``recall``, ``threshold``,
        ``positives`` and ``negatives``; ``intervals`` of these metrics and their means,
        likewise. What is undefined, such as the AUROC of a label without a positive, or the
        threshold of a label that has several, is None.

    Raises:
        ValueError: If there is no example, a logit is NaN, a label is not 0, 1 or -1, or the names
            do not match the logits.
    """
    check_class_names(label_names, logits.shape[-1])
    scores = score_labels(labels, logits)
    probabilities = sigmoid(logits)
    predictions = probabilities >= thresholds
    f1 = label_f1(labels, predictions)
    intervals = ranking_intervals(labels, logits, groups=groups, seed=SEED)
    f1_ends = f1_intervals(labels, predictions, groups=groups, seed=SEED)
    described = describe_intervals("bootstrap", "images", labels == 1, label_names, groups)
    per_label = _per_label(scores, label_names)
    for index, name in enumerate(label_names):
        per_label[name] |= {
            "f1": float(f1.per_label[index]),
            "precision": float(f1.precision[index]),
            "recall": float(f1.recall[index]),
            "threshold": float(thresholds[index]) if thresholds.ndim == 1 else None,
            "positives": int((labels[:, index] == 1).sum()),
            "negatives": int((labels[:, index] == 0).sum()),
        }
    odir = odir_figures(labels, probabilities)._asdict()
    return {
        **_means(scores),
        "macro_f1": f1.macro,
        "micro_f1": f1.micro,
        "samples_f1": f1.samples,
        "odir": {name: to_json(value) for name, value in odir.items()},
        "per_label": per_label,
        "intervals": {
            **described,
            **_means(intervals),
            **{f"{name}_f1": to_json(getattr(f1_ends, name)) for name in F1_MEANS},
            "per_label": {
                name: {**ends, **_f1_ends(f1_ends, index)}
                for index, (name, ends) in enumerate(_per_label(intervals, label_names).items())
            },
        },
    }


def _f1_ends(ends: LabelF1, index: int) -> dict[str, Any]:
    """Return the intervals of F1, precision and recall of one label."""
    columns = {"f1": ends.per_label, "precision": ends.precision, "recall": ends.recall}
    return {name: to_json(column[..., index]) for name, column in columns.items()}


def to_json(values: Any) -> Any:
    """Return Python numbers, and None where a value is NaN."""
    found = np.asarray(values, float)
    return None if np.isnan(found).any() else found.tolist()


def _means(scores: LabelRankingMetrics) -> dict[str, Any]:
    return {
        "mean_average_precision": to_json(scores.mean_average_precision),
        "mean_auroc": to_json(scores.mean_auroc),
    }


def _per_label(scores: LabelRankingMetrics, label_names: Sequence[str]) -> dict[str, Any]:
    return {
        name: {
            "auroc": to_json(scores.auroc[..., index]),
            "average_precision": to_json(scores.average_precision[..., index]),
        }
        for index, name in enumerate(label_names)
    }
