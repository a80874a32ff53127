"""Subgroups of a segmentation test, by the mean DSC and IoU of its cases."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Integer, Shaped

from lmf_jax.errors import UserError
from lmf_jax.evaluation.resampling import (
    LEVEL,
    Groups,
    expanded_level,
    num_units,
    percentile_interval,
)
from lmf_jax.evaluation.segmentation.metrics import overlap_metrics
from lmf_jax.evaluation.segmentation.summary import bootstrap_means
from lmf_jax.evaluation.subgroup_results import format_subgroups, read_subgroups
from lmf_jax.evaluation.subgroups import Measures, summarize_subgroups

SUBGROUP_TITLES = {"dsc": "DSC", "iou": "IoU"}
"""Metrics of a subgroup and their titles; the means are over cases and foreground classes."""


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


def read_case_subgroups(folder: Path, num_cases: int) -> dict[str, Any] | None:
    """Read ``subgroups.json`` of a segmentation test; None if it has none.

    Args:
        folder: The folder of a run, or of a test on another dataset.
        num_cases: Number of its test cases.

    Raises:
        UserError: If the file is broken, or is of another test.
    """
    return read_subgroups(folder, tuple(SUBGROUP_TITLES), num_cases)


def format_case_subgroups(folder: Path, num_cases: int, columns: Sequence[str]) -> str:
    """Format the subgroups of a test for the terminal, see :func:`format_subgroups`.

    Args:
        folder: The folder of a run, or of a test on another dataset.
        num_cases: Number of the test cases.
        columns: Names of the columns of metadata.

    Raises:
        UserError: If the test has no subgroups or not these, or the file is broken.
    """
    content = read_case_subgroups(folder, num_cases)
    if content is None:
        raise UserError(f"{folder} has no subgroups: the test images have no metadata.")
    return format_subgroups(content, columns, SUBGROUP_TITLES, "dsc", by_class=False)
