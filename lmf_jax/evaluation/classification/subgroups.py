"""Subgroups of a classification test."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Integer, Shaped

from lmf_jax.evaluation.classification.metrics import (
    classification_metrics,
    confusion_matrix,
    predicted_classes,
)
from lmf_jax.evaluation.posterior import metric_intervals
from lmf_jax.evaluation.resampling import Groups
from lmf_jax.evaluation.subgroup_results import SubgroupMetrics
from lmf_jax.evaluation.subgroups import Measures, summarize_subgroups
from lmf_jax.evaluation.summary import SEED

SUBGROUP_TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
}
"""Metrics of a subgroup and their titles; the means are over the classes that it has."""

SUBGROUP_METRICS = SubgroupMetrics(SUBGROUP_TITLES, "balanced_accuracy")


def summarize_test_subgroups(
    labels: Integer[np.ndarray, " n"],
    logits: Float[np.ndarray, "n classes"],
    metadata: Mapping[str, Shaped[np.ndarray, " n"]],
    groups: Groups | None = None,
) -> dict[str, Any] | None:
    """Return the contents of ``subgroups.json``; None if there is no metadata.

    Balanced accuracy and macro F1 are means over the classes with an image in the subgroup. The
    difference from the rest is in macro recall over the classes of both.

    Args:
        labels: Class ids ``[n]``.
        logits: Scores ``[n, C]``.
        metadata: Value of each image by column, unicode; "" is unknown.
        groups: Lesion or patient of each image.

    Raises:
        ValueError: If a logit is NaN.
    """
    if not metadata:
        return None
    num_classes, predictions = logits.shape[-1], predicted_classes(logits)

    def measure(rows: Int[np.ndarray, " m"]) -> Measures:
        of_subgroup = labels[rows], predictions[rows]
        units = None if groups is None else groups[rows]
        confusion = np.asarray(confusion_matrix(*of_subgroup, num_classes=num_classes))
        value = classification_metrics(confusion)
        ends = metric_intervals(*of_subgroup, num_classes=num_classes, groups=units, seed=SEED)
        # An absent class has F1 0 in the value and in every draw of the interval.
        scale = num_classes / len(np.unique(labels[rows]))
        factors = {"accuracy": 1.0, "balanced_accuracy": 1.0, "macro_f1": scale}
        metrics = {name: factor * float(getattr(value, name)) for name, factor in factors.items()}
        intervals = {
            name: (factor * np.asarray(getattr(ends, name), float)).tolist()
            for name, factor in factors.items()
        }
        return metrics, intervals

    return summarize_subgroups(
        metadata,
        predictions == labels,
        labels,
        measure,
        examples="images",
        compared="macro recall",
        groups=groups,
    )
