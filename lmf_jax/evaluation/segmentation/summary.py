"""The summary of a test of segmentation, as ``test.json`` holds it."""

from collections.abc import Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Shaped

from lmf_jax.evaluation.classification.summary import SEED, check_class_names, count_units
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

Hd95Unit = Literal["mm", "pixels"]


def summarize_test(
    ids: Shaped[np.ndarray, " n"],
    counts: Integer[np.ndarray, "n classes 3"],
    hd95: Float[np.ndarray, "n classes"],
    class_names: Sequence[str],
    groups: Groups | None = None,
    hd95_unit: Hd95Unit = "mm",
) -> dict[str, Any]:
    """Summarise the test of a segmentation, as ``test.json`` holds it.

    Every case counts the same, however large it is, and every foreground class too. The background,
    class 0, is listed by itself and is in no mean.

    Args:
        ids: name of each case ``[n]``, unicode, all different.
        counts: of each case, see :func:`lmf_jax.evaluation.segmentation.metrics.case_counts`.
        hd95: 95 % Hausdorff distance of each case and class ``[n, C]``.
        class_names: the ``C`` names by class id, all different, the background first.
        groups: patient or lesion of each case ``[n]``, which are then drawn for the intervals.
        hd95_unit: unit of the distances.

    Returns:
        ``dsc``, ``iou``, ``precision``, ``recall`` and ``hd95``, means over the cases and then over
        the foreground classes; ``hd95_unit``; ``per_class``: for each name the means over the
        cases, and ``support``, the cases with the class in their truth; ``per_case``: for each id
        the means over the foreground classes; ``intervals``: ``method``, ``level``, ``resamples``,
        ``seed``, ``drawn`` (``cases`` or ``groups``), ``units`` (cases, or groups, with each
        foreground class), ``[low, high]`` of each metric, and ``per_class`` the same for each name.
        The intervals are percentiles of the bootstrap over cases, expanded for few cases by
        :func:`expanded_level`. Python floats and integers.

    Raises:
        ValueError: if there is no case, an id comes twice, a distance is not finite, or the class
            names do not match the counts.
    """
    check_class_names(class_names, counts.shape[1])
    _check_cases(ids, hd95)
    cases = case_metrics(counts, hd95)
    values = np.stack([cases[name] for name in CASE_METRICS], axis=-1)
    means = values.mean(axis=0)
    samples = bootstrap_means(values, groups)
    level = expanded_level(LEVEL, num_units(len(ids), groups))
    has_class = counts[:, :, 0] + counts[:, :, 2] > 0
    per_class = _by_name(class_names, means)
    for name, number in zip(class_names, has_class.sum(axis=0), strict=True):
        per_class[name]["support"] = int(number)
    return {
        **_by_metric(means[1:].mean(axis=0)),
        "hd95_unit": hd95_unit,
        "per_class": per_class,
        "per_case": _by_name(ids.tolist(), values[:, 1:].mean(axis=1)),
        "intervals": {
            "method": "expanded percentile",
            "level": LEVEL,
            "resamples": NUM_RESAMPLES,
            "seed": SEED,
            "drawn": "cases" if groups is None else "groups",
            "units": count_units(has_class[:, 1:], class_names[1:], groups),
            **_by_metric(percentile_interval(samples[:, 1:].mean(axis=1), level=level).T),
            "per_class": _by_name(
                class_names, percentile_interval(samples, level=level).transpose(1, 2, 0)
            ),
        },
    }


def case_metrics(
    counts: Integer[np.ndarray, "*n classes 3"], hd95: Float[np.ndarray, "*n classes"]
) -> dict[str, Float[np.ndarray, "*n classes"]]:
    """Return every metric of each case and class.

    Args:
        counts: see :func:`lmf_jax.evaluation.segmentation.metrics.case_counts`.
        hd95: the distances, which counts do not hold.
    """
    return {**overlap_metrics(counts), "hd95": hd95}


def bootstrap_means(
    values: Float[np.ndarray, "n ..."],
    groups: Groups | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = SEED,
) -> Float[np.ndarray, "{num_resamples} ..."]:
    """Compute means over the cases of each resample.

    Args:
        values: of each case ``[n, ...]``.
        groups: patient or lesion of each case ``[n]``, which are then drawn with all their cases.
        num_resamples: resamples ``R``.
        seed: of the resamples; equal seeds draw equal ones.

    Returns:
        The means ``[R, ...]``; within a resample all are of the same cases.
    """
    center = values.mean(axis=0)  # resamples are in float32: what is rounded is the rest alone
    means = resample(
        _weighted_mean,
        (values - center).astype(np.float32),
        np.zeros(len(values), int),  # cases of all classes: there is one stratum
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
        raise ValueError("There are no cases to summarise; expected at least one.")
    names, times = np.unique(ids, return_counts=True)
    if times.max() > 1:
        raise ValueError(f"The case {names[times.argmax()]} comes twice; each must be unique.")
    if hd95.shape[1] < 2:
        raise ValueError("There is the background alone; expected at least one other class.")
    if not np.isfinite(hd95).all():
        raise ValueError("A distance is not finite; expected what hausdorff_95 returns.")
