"""Summary of a segmentation test: every metric with its interval, as in ``test.json``."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Shaped

from lmf_jax.errors import printable
from lmf_jax.evaluation.resampling import (
    LEVEL,
    NUM_RESAMPLES,
    Groups,
    expanded_level,
    num_units,
    percentile_interval,
    resample,
)
from lmf_jax.evaluation.segmentation.metrics import CASE_METRICS, overlap_metrics
from lmf_jax.evaluation.summary import SEED, check_class_names, describe_intervals, few_units_notes

Hd95Unit = Literal["mm", "pixels"]


def summarize_test(
    ids: Shaped[np.ndarray, " n"],
    counts: Integer[np.ndarray, "n classes 3"],
    hd95: Float[np.ndarray, "n classes"],
    class_names: Sequence[str],
    groups: Groups | None = None,
    hd95_unit: Hd95Unit = "mm",
) -> dict[str, Any]:
    """Compute every metric of the cases with its interval, as ``test.json`` stores them.

    Every case has the same weight, whatever its size, and so has every foreground class. The
    background, class 0, is listed separately and is part of no mean.

    Args:
        ids: Unique name of each case ``[n]``, unicode.
        counts: Counts of each case, see
            :func:`lmf_jax.evaluation.segmentation.metrics.case_counts`.
        hd95: 95 % Hausdorff distance of each case and class ``[n, C]``.
        class_names: The ``C`` unique names by class id, the background first.
        groups: Lesion or patient of each case ``[n]``; the intervals then resample these.
        hd95_unit: Unit of the distances.

    Returns:
        A mapping with these keys, whose values are Python floats and integers:

        - ``dsc``, ``iou``, ``precision``, ``recall``, ``hd95``: means over the cases and then over
          the foreground classes.
        - ``hd95_unit``: unit of the distances.
        - ``per_class``: for each name, the means over the cases, and ``support``, the number of
          cases whose truth contains the class.
        - ``per_case``: for each id, the means over the foreground classes.
        - ``intervals``: ``[low, high]`` of each metric, bootstrap percentiles over the cases,
          expanded for few cases by :func:`expanded_level`; ``per_class`` likewise for each name;
          and ``method``, ``level``, ``resamples``, ``seed``, ``drawn`` (``cases`` or ``groups``)
          and ``units`` (number of cases or groups with each foreground class).

    Raises:
        ValueError: If there is no case, an id is repeated, a distance is not finite, or the class
            names do not match the counts.
    """
    check_class_names(class_names, counts.shape[1])
    _check_cases(ids, hd95)
    metrics = case_metrics(counts, hd95)
    values = np.stack([metrics[name] for name in CASE_METRICS], axis=-1)
    means = values.mean(axis=0)
    samples = bootstrap_means(values, groups)
    level = expanded_level(LEVEL, num_units(len(ids), groups))
    has_class = true_sizes(counts) > 0
    per_class = _by_name(class_names, means)
    for name, support in zip(class_names, has_class.sum(axis=0), strict=True):
        per_class[name]["support"] = int(support)
    return {
        **_by_metric(means[1:].mean(axis=0)),
        "hd95_unit": hd95_unit,
        "per_class": per_class,
        "per_case": _by_name(ids.tolist(), values[:, 1:].mean(axis=1)),
        "intervals": {
            **describe_intervals(
                "expanded percentile", "cases", has_class[:, 1:], class_names[1:], groups
            ),
            **_by_metric(percentile_interval(samples[:, 1:].mean(axis=1), level=level).T),
            "per_class": _by_name(
                class_names, percentile_interval(samples, level=level).transpose(1, 2, 0)
            ),
        },
    }


def class_notes(test: Mapping[str, Any], part: str = "test") -> list[str]:
    """Name the foreground classes that no case contains and those that few cases contain.

    Args:
        test: The contents of ``test.json``.
        part: Part of the data that the metrics were computed on.

    Returns:
        Up to two notes.
    """
    _, *foreground = test["per_class"].items()
    absent = [printable(name) for name, metrics in foreground if not metrics["support"]]
    notes = []
    if absent:
        notes.append(
            f"No {part} cases of {', '.join(absent)}: the overlap metrics of a case are 1 if none "
            "is predicted, else 0."
        )
    return [*notes, *few_units_notes(test)]


def case_metrics(
    counts: Integer[np.ndarray, "*n classes 3"], hd95: Float[np.ndarray, "*n classes"]
) -> dict[str, Float[np.ndarray, "*n classes"]]:
    """Return every metric of each case and class.

    Args:
        counts: See :func:`lmf_jax.evaluation.segmentation.metrics.case_counts`.
        hd95: 95 % Hausdorff distances, which cannot be computed from the counts.
    """
    return {**overlap_metrics(counts), "hd95": hd95}


def true_sizes(
    counts: Integer[np.ndarray, "*n classes 3"],
) -> Integer[np.ndarray, "*n classes"]:
    """Return the true number of pixels or voxels of each class.

    Args:
        counts: See :func:`lmf_jax.evaluation.segmentation.metrics.case_counts`.
    """
    return counts[..., 0] + counts[..., 2]  # true positives + false negatives


def bootstrap_means(
    values: Float[np.ndarray, "n ..."],
    groups: Groups | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = SEED,
) -> Float[np.ndarray, "{num_resamples} ..."]:
    """Compute the mean over the cases of each bootstrap resample.

    Args:
        values: Values of each case ``[n, ...]``.
        groups: Lesion or patient of each case ``[n]``; each is drawn with all its cases.
        num_resamples: Number of resamples ``R``.
        seed: Seed of the resamples.

    Returns:
        The means ``[R, ...]``; all values of a resample come from the same cases.
    """
    center = values.mean(axis=0)  # Resamples are float32; centering keeps the rounding error small.
    means = resample(
        _weighted_mean,
        (values - center).astype(np.float32),
        np.zeros(len(values), int),  # A single stratum: cases contain several classes.
        1,
        groups=groups,
        num_resamples=num_resamples,
        seed=seed,
    )
    return np.clip(center + means, values.min(axis=0), values.max(axis=0))


def _weighted_mean(
    values: Float[Array, "n ..."], weights: Float[Array, " n"], _: int
) -> Float[Array, "..."]:
    return jnp.tensordot(weights, values, axes=1) / weights.sum()


def _by_metric(values: Float[np.ndarray, "metrics ..."]) -> dict[str, Any]:
    return dict(zip(CASE_METRICS, values.tolist(), strict=True))


def _by_name(
    names: Sequence[str], values: Float[np.ndarray, "names metrics ..."]
) -> dict[str, dict[str, Any]]:
    return {name: _by_metric(row) for name, row in zip(names, values, strict=True)}


def _check_cases(ids: Shaped[np.ndarray, " n"], hd95: Float[np.ndarray, "n classes"]) -> None:
    if len(ids) == 0:
        raise ValueError("There are no cases to summarize; expected at least one.")
    names, counts = np.unique(ids, return_counts=True)
    if counts.max() > 1:
        raise ValueError(f"The case id {names[counts.argmax()]} is repeated; ids must be unique.")
    if hd95.shape[1] < 2:
        raise ValueError("There is only the background class; expected at least one other class.")
    if not np.isfinite(hd95).all():
        raise ValueError("A distance is not finite; expected the values of hausdorff_95.")
