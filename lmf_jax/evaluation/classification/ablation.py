"""How much the predictions of a run depend on each metadata column beside the image."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from lmf_jax.evaluation.classification.metrics import predicted_classes
from lmf_jax.evaluation.classification.summary import class_notes, summarize_test
from lmf_jax.evaluation.comparison import INTERVAL, WIDTH, align_columns
from lmf_jax.evaluation.formatting import format_difference, format_fraction, format_interval
from lmf_jax.evaluation.posterior import metric_difference
from lmf_jax.evaluation.resampling import Groups
from lmf_jax.evaluation.statistics import auroc_difference
from lmf_jax.evaluation.summary import SEED, unit_name

METRICS = {"macro_f1": "macro F1", "auroc": "macro AUROC", "balanced_accuracy": "balanced accuracy"}
"""Metrics of an ablation, and their titles."""

LONGEST_TITLE = 28
"""Maximum number of characters of the title of a row."""

Difference = tuple[float, float, float]
"""A difference and the two ends of its interval."""


@dataclass(frozen=True)
class Ablation:
    """Metrics with all columns, and their changes without some.

    Attributes:
        test: The contents of ``test.json`` of the predictions with all columns.
        changes: Without minus with, by the title of the row and the metric; None where a metric is
            undefined.
    """

    test: Mapping[str, Any]
    changes: Mapping[str, Mapping[str, Difference | None]]


def summarize_ablation(
    labels: Integer[np.ndarray, " n"],
    logits: Float[np.ndarray, "n classes"],
    without: Mapping[str, Float[np.ndarray, "n classes"]],
    class_names: Sequence[str],
    groups: Groups | None = None,
) -> Ablation:
    """Measure how predictions change if columns are missing for every image.

    Args:
        labels: Class ids ``[n]``.
        logits: Scores with all columns ``[n, C]``.
        without: Scores without some columns ``[n, C]``, by the title of the row.
        class_names: The ``C`` names by class id.
        groups: Lesion or patient of each image; the intervals are then those of these units.

    Raises:
        ValueError: If a logit is NaN.
    """
    test = summarize_test(labels, logits, class_names, groups)
    is_ranked = test["auroc"] is not None

    def changes(other: Float[np.ndarray, "n classes"]) -> dict[str, Difference | None]:
        predictions = [predicted_classes(scores)[None] for scores in (other, logits)]
        shared: dict[str, Any] = {"num_classes": len(class_names), "groups": groups, "seed": SEED}
        return {
            "macro_f1": metric_difference(labels, *predictions, metric="macro_f1", **shared),
            "auroc": auroc_difference(labels, other, logits, groups=groups, seed=SEED)
            if is_ranked
            else None,
            "balanced_accuracy": metric_difference(
                labels, *predictions, metric="balanced_accuracy", **shared
            ),
        }

    return Ablation(test, {title: changes(other) for title, other in without.items()})


def format_ablation(ablation: Ablation) -> str:
    """Format an ablation as plain text, at most 100 columns wide.

    Returns:
        The table, a row for each set of missing columns, and notes; no newline at the end.
    """
    test = ablation.test
    rows = [
        ["", *METRICS.values()],
        ["all columns", *(_format_metric(test, name) for name in METRICS)],
    ]
    for title, changes in ablation.changes.items():
        is_long = len(title) > LONGEST_TITLE
        short = f"{title[: LONGEST_TITLE - 1]}…" if is_long else title
        rows.append([short, *(_format_change(changes[name]) for name in METRICS)])
    units = unit_name(test["intervals"]["drawn"])
    notes = [
        f"[ ]: {INTERVAL} for the choice of test {units}. Without a column: the change of the "
        "metric if the column is missing for every image. Both sides share the draws of the "
        "interval; that of AUROC is a bootstrap interval.",
        "The table shows how much this model depends on a column, not how much metadata gain: for "
        "that, train a run without them and compare the two.",
        *class_notes(test),
    ]
    lines = [line for note in notes for line in textwrap.wrap(note, WIDTH)]
    return "\n".join([*align_columns(rows, "<"), "", *lines])


def _format_metric(test: Mapping[str, Any], name: str) -> str:
    ends = test["intervals"][name]
    return f"{format_fraction(test[name])} {format_interval(ends) if ends else ''}".rstrip()


def _format_change(change: Difference | None) -> str:
    if change is None:
        return "n/a"
    difference, *ends = change
    return f"{format_difference(difference)} {format_interval(ends, format_difference)}"
