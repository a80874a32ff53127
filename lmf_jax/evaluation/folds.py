"""Results of the folds of a cross-validation: metrics of each, their mean and deviation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmf_jax.evaluation.formatting import format_count, format_fraction
from lmf_jax.runs.files import check, is_number, is_whole, require


def summarize_folds(
    tests: Sequence[Mapping[str, Any]], sizes: Sequence[int], metrics: Sequence[str]
) -> dict[str, Any]:
    """Return the entry ``folds`` of the ``test.json`` of a cross-validation.

    The folds share training images, so the deviation is not a standard error, and no interval
    follows from it; see Bengio and Grandvalet, No unbiased estimator of the variance of k-fold
    cross-validation, JMLR 5, 2004.

    Args:
        tests: The contents of ``test.json`` of each fold.
        sizes: Number of test images or cases of each.
        metrics: The metrics to list.

    Returns:
        ``each``: for every fold ``fold`` (from 1), ``size`` and the metrics; ``mean`` and
        ``standard_deviation`` (of the sample, n - 1) of each metric over the folds.
    """
    values = {name: np.array([test[name] for test in tests], np.float64) for name in metrics}
    each = [
        {
            "fold": index + 1,
            "size": int(size),
            **{name: float(values[name][index]) for name in metrics},
        }
        for index, size in enumerate(sizes)
    ]
    return {
        "each": each,
        "mean": {name: float(found.mean()) for name, found in values.items()},
        "standard_deviation": {name: float(found.std(ddof=1)) for name, found in values.items()},
    }


def check_folds(path: Path, folds: Any, metrics: Sequence[str], total: int) -> None:
    """Raise UserError unless the entry ``folds`` of a ``test.json`` is complete and possible.

    Args:
        path: The file, for the error.
        folds: The entry.
        metrics: The metrics that it must list, in [0, 1].
        total: Number of test images or cases of all folds.
    """
    require(path, folds, ("each", "mean", "standard_deviation"), "its folds")
    each = folds["each"]
    check(path, isinstance(each, list) and len(each) > 1, "its folds are not a list of two or more")
    for number, fold in enumerate(each, start=1):
        require(path, fold, ("fold", "size", *metrics), f"its fold {number}")
        is_one = fold["fold"] == number and is_whole(fold["size"], 1)
        check(path, is_one, f"its fold {number} has another number, or no size")
    check(path, sum(fold["size"] for fold in each) == total, "its folds have other sizes in total")
    for owner in (*each, folds["mean"], folds["standard_deviation"]):
        require(path, owner, metrics, "its folds")
        are_fractions = all(is_number(owner[name], -1e-9, 1 + 1e-9) for name in metrics)
        check(path, are_fractions, "its folds have an impossible value of a metric")


def fold_lines(folds: Mapping[str, Any], titles: Mapping[str, str], examples: str) -> list[str]:
    """Return a line of text per fold, and one with mean and standard deviation.

    Args:
        folds: From :func:`summarize_folds`.
        titles: Metrics and their titles.
        examples: Plural noun for the examples.
    """
    lines = []
    for fold in folds["each"]:
        texts = (f"{title} {format_fraction(fold[name])}" for name, title in titles.items())
        size = f"{format_count(fold['size'])} {examples}"
        lines.append(f"fold {fold['fold']}: {', '.join(texts)} ({size})")
    mean, deviation = folds["mean"], folds["standard_deviation"]
    texts = (
        f"{title} {format_fraction(mean[name])} ± {format_fraction(deviation[name])}"
        for name, title in titles.items()
    )
    return [*lines, f"mean ± standard deviation of the folds: {', '.join(texts)}"]


def fold_rows(test: Mapping[str, Any], titles: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the table of the folds for the report; None for a single run.

    Args:
        test: The contents of ``test.json``.
        titles: Metrics and their titles.
    """
    folds = test.get("folds")
    if folds is None:
        return None
    return {
        "titles": list(titles.values()),
        "rows": [
            {"fold": fold["fold"], "size": fold["size"], "values": [fold[name] for name in titles]}
            for fold in folds["each"]
        ],
        **{row: [folds[row][name] for name in titles] for row in ("mean", "standard_deviation")},
    }
