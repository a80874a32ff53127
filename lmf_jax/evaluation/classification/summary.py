"""Summary of a classification test: every metric with its interval, as in ``test.json``."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer

from lmf_jax.errors import printable
from lmf_jax.evaluation.classification.scores import Scores, has_counterexamples, score
from lmf_jax.evaluation.resampling import Groups
from lmf_jax.evaluation.statistics import score_intervals
from lmf_jax.evaluation.summary import SEED, check_class_names, describe_intervals, few_units_notes


def summarize_test(
    labels: Integer[np.ndarray, " n"],
    logits: Float[np.ndarray, "n classes"],
    class_names: Sequence[str],
    groups: Groups | None = None,
) -> dict[str, Any]:
    """Compute every metric of the predictions with its interval, as ``test.json`` stores them.

    Args:
        labels: Class ids ``[n]``.
        logits: Scores ``[n, C]``.
        class_names: The ``C`` unique names by class id.
        groups: Lesion or patient of each example ``[n]``; the intervals then resample these.

    Returns:
        ``accuracy``, ``balanced_accuracy``, ``mcc``, ``macro_precision``, ``macro_recall``,
        ``macro_f1``, ``auroc`` and ``average_precision`` (macro means, one class against the rest),
        ``ece`` (debiased, see :func:`debiased_calibration_error`, and of the softmax of these
        logits: that of calibrated probabilities is in ``calibration.json``);
        ``per_class``: for each name ``precision``, ``recall``, ``f1``, ``auroc``,
        ``average_precision`` and ``support``; ``intervals``: ``method``, ``level``, ``resamples``,
        ``seed``, ``drawn`` (``images`` or ``groups``), ``units`` (number of images or groups of
        each class), ``[low, high]`` of each metric, and ``per_class`` likewise for each name.
        Values are Python floats in [0, 1] (``mcc`` in [-1, 1]) and integers. AUROC and average
        precision are None for a class without an example or without a counterexample, and so are
        all intervals of a class without an example. The intervals of confusion-matrix metrics come
        from :func:`metric_intervals`; those of AUROC and average precision are bootstrap
        percentiles, which are too narrow for a class with few examples. See
        :func:`classification_metrics` for the other metrics.

    Raises:
        ValueError: If there is no example, a logit is NaN, a label is not a class id, or the class
            names do not match the logits.
    """
    num_classes = logits.shape[-1]
    check_class_names(class_names, num_classes)
    _check_labels(labels, num_classes)
    intervals, ece = score_intervals(labels, logits, groups=groups, seed=SEED)
    scores = score(labels, logits)._replace(ece=np.float64(ece))
    ranked = has_counterexamples(labels, num_classes)
    present = np.bincount(labels, minlength=num_classes) > 0
    per_class = _per_class(scores, class_names, ranked, np.ones_like(present))
    for name, support in zip(class_names, scores.classification.support, strict=True):
        per_class[name]["support"] = int(support)
    is_class = labels[:, None] == np.arange(num_classes)
    return {
        **_overall(scores, ranked),
        "per_class": per_class,
        "intervals": {
            **describe_intervals("posterior", "images", is_class, class_names, groups),
            **_overall(intervals, ranked),
            "per_class": _per_class(intervals, class_names, ranked, present),
        },
    }


def class_notes(test: Mapping[str, Any], part: str = "test") -> list[str]:
    """Name the metrics that are undefined and the classes with few test images.

    Args:
        test: The contents of ``test.json``.
        part: Part of the data that the metrics were computed on.

    Returns:
        Up to three notes.
    """
    per_class = test["per_class"].items()
    absent = [printable(name) for name, metrics in per_class if not metrics["support"]]
    notes = []
    if absent:
        notes.append(
            f"No {part} images of {', '.join(absent)}: n/a, counted as 0 in macro precision, "
            "recall and F1, and left out of the other macro means."
        )
    if test["auroc"] is None:
        notes.append(f"All {part} images are of one class: AUROC and average precision are n/a.")
    return [*notes, *few_units_notes(test)]


def _overall(scores: Scores, ranked: Bool[np.ndarray, " classes"]) -> dict[str, Any]:
    classification, ranking = scores.classification, scores.ranking
    metrics = {
        "accuracy": classification.accuracy,
        "balanced_accuracy": classification.balanced_accuracy,
        "mcc": classification.mcc,
        "macro_precision": classification.macro_precision,
        "macro_recall": classification.macro_recall,
        "macro_f1": classification.macro_f1,
        "auroc": ranking.macro_auroc if ranked.any() else None,
        "average_precision": ranking.macro_average_precision if ranked.any() else None,
        "ece": scores.ece,
    }
    return {name: _to_json(metric) for name, metric in metrics.items()}


def _per_class(
    scores: Scores,
    class_names: Sequence[str],
    ranked: Bool[np.ndarray, " classes"],
    defined: Bool[np.ndarray, " classes"],
) -> dict[str, dict[str, Any]]:
    metrics = {
        "precision": (scores.classification.precision, defined),
        "recall": (scores.classification.recall, defined),
        "f1": (scores.classification.f1, defined),
        "auroc": (scores.ranking.auroc, ranked),
        "average_precision": (scores.ranking.average_precision, ranked),
    }
    return {
        name: {
            metric: _to_json(values[..., class_id]) if where[class_id] else None
            for metric, (values, where) in metrics.items()
        }
        for class_id, name in enumerate(class_names)
    }


def _to_json(values: Any) -> Any:
    return None if values is None else np.asarray(values, float).tolist()


def _check_labels(labels: Integer[np.ndarray, " n"], num_classes: int) -> None:
    if len(labels) == 0:
        raise ValueError("There are no examples to summarize; expected at least one label.")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"The labels run from {labels.min()} to {labels.max()}; expected class ids from 0 to "
            f"{num_classes - 1}."
        )
