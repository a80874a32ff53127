"""The summary of a test: every metric with its interval, as ``test.json`` holds them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer

from lmf_jax.errors import printable
from lmf_jax.evaluation.classification.scores import Scores, has_counterexamples, score
from lmf_jax.evaluation.resampling import FEW_UNITS, LEVEL, NUM_RESAMPLES, Groups, unit_codes
from lmf_jax.evaluation.statistics import score_intervals

MOST_NAMED = 6
"""Classes that a sentence lists by name."""

SEED = 0
"""Of the resamples: fixed, so that the same predictions have the same intervals."""


def summarize_test(
    labels: Integer[np.ndarray, " n"],
    logits: Float[np.ndarray, "n classes"],
    class_names: Sequence[str],
    groups: Groups | None = None,
) -> dict[str, Any]:
    """Summarise the predictions of a part of the data, as ``test.json`` holds them.

    Args:
        labels: class ids ``[n]``.
        logits: scores ``[n, C]``.
        class_names: the ``C`` names by class id, all different.
        groups: lesion or patient of each example ``[n]``, which are then drawn for the intervals.

    Returns:
        ``accuracy``, ``balanced_accuracy``, ``mcc``, ``macro_precision``, ``macro_recall``,
        ``macro_f1``, ``auroc`` and ``average_precision`` (macro means, one class against the rest),
        ``ece`` (debiased, see :func:`debiased_calibration_error`);
        ``per_class``: for each name ``precision``, ``recall``, ``f1``, ``auroc``,
        ``average_precision`` and ``support``; ``intervals``: ``method``, ``level``, ``resamples``,
        ``seed``, ``drawn`` (``images`` or ``groups``), ``units`` (images, or groups, of each
        class), ``[low, high]`` of each metric, and ``per_class`` the same for each name. Python
        floats in [0, 1] (``mcc`` in [-1, 1]) and integers. None stands for AUROC and average
        precision of a class without an example or without one of another class, and for the
        intervals of a class without an example. The intervals of metrics of the confusion matrix
        are those of
        :func:`metric_intervals`; those of AUROC and average precision are percentiles of the
        bootstrap, which are too narrow for a class of few examples. See
        :func:`classification_metrics` for its other metrics.

    Raises:
        ValueError: if there is no example, a logit is NaN, a label is no class id, or the class
            names do not match the logits.
    """
    num_classes = logits.shape[-1]
    check_class_names(class_names, num_classes)
    _check_labels(labels, num_classes)
    intervals, ece = score_intervals(labels, logits, groups=groups, seed=SEED)
    scores = score(labels, logits)._replace(ece=np.float64(ece))
    ranked = has_counterexamples(labels, num_classes)
    present = np.bincount(labels, minlength=num_classes) > 0
    values = _per_class(scores, class_names, ranked, np.ones_like(present))
    for name, support in zip(class_names, scores.classification.support, strict=True):
        values[name]["support"] = int(support)
    return {
        **_overall(scores, ranked),
        "per_class": values,
        "intervals": {
            "method": "posterior",
            "level": LEVEL,
            "resamples": NUM_RESAMPLES,
            "seed": SEED,
            "drawn": "images" if groups is None else "groups",
            "units": count_units(labels[:, None] == np.arange(num_classes), class_names, groups),
            **_overall(intervals, ranked),
            "per_class": _per_class(intervals, class_names, ranked, present),
        },
    }


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


def count_units(
    has_class: Bool[np.ndarray, "n classes"], class_names: Sequence[str], groups: Groups | None
) -> dict[str, int]:
    """Count the independent units that have an example of each class.

    Args:
        has_class: whether each example has, or is of, each class ``[n, C]``.
        class_names: the ``C`` names.
        groups: lesion or patient of each example; None takes all examples as independent.
    """
    codes = unit_codes(len(has_class), groups)
    return {
        name: len(np.unique(codes[column]))
        for name, column in zip(class_names, has_class.T, strict=True)
    }


def describe_few_units(test: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the classes that have fewer than ``FEW_UNITS`` independent units in the test.

    Args:
        test: in the form of ``test.json``. A file of an earlier version does not count units.

    Returns:
        One note, or none where there is no such class. A class without any unit is left out.
    """
    intervals = test["intervals"]
    counts = sorted(intervals.get("units", {}).items(), key=lambda item: item[1])
    few = [f"{printable(name)[:40]} ({count})" for name, count in counts if 0 < count < FEW_UNITS]
    if not few:
        return ()
    units = "lesions or patients" if intervals["drawn"] == "groups" else intervals["drawn"]
    more = f" and {len(few) - MOST_NAMED} more" if len(few) > MOST_NAMED else ""
    return (
        f"Classes with fewer than {FEW_UNITS} test {units}: {', '.join(few[:MOST_NAMED])}{more}. "
        "Their scores, and the means over the classes, are uncertain: read the intervals.",
    )


def check_class_names(class_names: Sequence[str], num_classes: int) -> None:
    """Raise ValueError unless each class has a name of its own."""
    if len(class_names) != num_classes:
        raise ValueError(
            f"There are {len(class_names)} class names for {num_classes} classes; "
            "expected one name for each class."
        )
    repeated = sorted({name for name in class_names if list(class_names).count(name) > 1})
    if repeated:
        raise ValueError(f"The class names repeat {', '.join(repeated)}; each must be unique.")


def _check_labels(labels: Integer[np.ndarray, " n"], num_classes: int) -> None:
    if len(labels) == 0:
        raise ValueError("There are no examples to summarise; expected at least one label.")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"The labels run from {labels.min()} to {labels.max()}; expected class ids from 0 to "
            f"{num_classes - 1}."
        )
