"""Subgroups of a segmentation test, by the mean DSC and IoU of its cases."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int, Integer, Shaped

from lmf_jax.evaluation.resampling import (
    LEVEL,
    Groups,
    expanded_level,
    num_units,
    percentile_interval,
)
from lmf_jax.evaluation.segmentation.metrics import overlap_metrics
from lmf_jax.evaluation.segmentation.summary import bootstrap_means
from lmf_jax.evaluation.subgroup_results import SubgroupMetrics
from lmf_jax.evaluation.subgroups import Measures, summarize_subgroups

SUBGROUP_TITLES = {"dsc": "DSC", "iou": "IoU"}
"""Metrics of a subgroup and their titles; the means are over cases and foreground classes."""

SUBGROUP_METRICS = SubgroupMetrics(SUBGROUP_TITLES, "dsc", by_class=False)


def summarize_case_subgroups(
    counts: Integer[np.ndarray, "n classes 3"],
    metadata: Mapping[str, Shaped[np.ndarray, " n"]],
    groups: Groups | None = None,
) -> dict[str, Any] | None:
    """Return the contents of ``subgroups.json``; None if there is no metadata.

    The score of a case is the mean over the foreground classes, as in ``test.json``, and the
    intervals are the expanded percentile intervals of that file. The difference from the rest is in
    the mean DSC of the cases.

    Args:
        counts: Counts of each case, see
            :func:`lmf_jax.evaluation.segmentation.metrics.case_counts`.
        metadata: Value of each case by column, unicode; "" is unknown.
        groups: Lesion or patient of each case.
    """
    if not metadata:
        return None
    overlaps = overlap_metrics(counts)
    scores = {name: overlaps[name][:, 1:].mean(axis=1) for name in SUBGROUP_TITLES}
    values = np.stack(list(scores.values()), axis=-1)

    def measure(rows: Int[np.ndarray, " m"]) -> Measures:
        units = None if groups is None else groups[rows]
        means = values[rows].mean(axis=0)
        level = expanded_level(LEVEL, num_units(len(rows), units))
        low, high = percentile_interval(bootstrap_means(values[rows], units), level=level)
        # With equal scores, the resampled means differ from the mean by rounding.
        ends = np.stack([np.minimum(low, means), np.maximum(high, means)], axis=-1)
        names = list(scores)
        return (
            dict(zip(names, means.tolist(), strict=True)),
            dict(zip(names, ends.tolist(), strict=True)),
        )

    return summarize_subgroups(
        metadata,
        scores["dsc"],
        np.zeros(len(counts), np.int64),  # cases contain several classes
        measure,
        examples="cases",
        compared="mean DSC",
        groups=groups,
    )
