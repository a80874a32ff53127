"""Subgroups of a multi-label test."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from lmf_jax.evaluation.multilabel.scores import Labels, Logits, score_labels, sigmoid
from lmf_jax.evaluation.multilabel.statistics import ranking_intervals
from lmf_jax.evaluation.multilabel.summary import to_json
from lmf_jax.evaluation.resampling import Groups
from lmf_jax.evaluation.subgroup_results import SubgroupMetrics
from lmf_jax.evaluation.subgroups import Measures, summarize_subgroups
from lmf_jax.evaluation.summary import SEED

SUBGROUP_TITLES = {"mean_average_precision": "mAP", "mean_auroc": "macro AUROC"}
"""Metrics of a subgroup and their titles; the means are over the labels that are defined in it."""

SUBGROUP_METRICS = SubgroupMetrics(SUBGROUP_TITLES, "mean_average_precision", by_class=False)


def summarize_test_subgroups(
    labels: Labels,
    logits: Logits,
    thresholds: Float[np.ndarray, " labels"],
    metadata: Mapping[str, Shaped[np.ndarray, " n"]],
    groups: Groups | None = None,
) -> dict[str, Any] | None:
    """Return the contents of ``subgroups.json``; None if there is no metadata.

    The difference from the rest is in the mean fraction of the labels of an image that are
    predicted correctly, of those that are known.

    Args:
        labels: 0, 1 or -1 for a missing label ``[n, C]``.
        logits: Calibrated ``[n, C]``.
        thresholds: Probability from which each label is predicted ``[C]``.
        metadata: Value of each image by column, unicode; "" is unknown.
        groups: Patient of each image.

    Raises:
        ValueError: If a logit is NaN.
    """
    if not metadata:
        return None

    def measure(rows: Int[np.ndarray, " m"]) -> Measures:
        units = None if groups is None else groups[rows]
        value = score_labels(labels[rows], logits[rows])
        ends = ranking_intervals(labels[rows], logits[rows], groups=units, seed=SEED)
        metrics = {name: to_json(getattr(value, name)) for name in SUBGROUP_TITLES}
        return metrics, {name: to_json(getattr(ends, name)) for name in SUBGROUP_TITLES}

    known = labels != -1
    correct = known & ((labels == 1) == (sigmoid(logits) >= thresholds))
    return summarize_subgroups(
        metadata,
        correct.sum(axis=1) / np.maximum(known.sum(axis=1), 1),
        np.zeros(len(labels), int),
        measure,
        examples="images",
        compared="mean fraction of correct labels",
        groups=groups,
    )
