"""Results of the folds of a cross-validation: metrics of each, their mean and deviation."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmf_jax.evaluation.formatting import format_count, format_fraction
from lmf_jax.evaluation.resampling import Groups
from lmf_jax.runs.atomic_files import write_results
from lmf_jax.runs.files import RunFiles, check, is_number, is_whole, require


def join_arrays(
    runs: Sequence[RunFiles], values: Mapping[str, Sequence[np.ndarray]]
) -> tuple[dict[str, np.ndarray], Groups | None]:
    """Concatenate the predictions of the folds.

    Args:
        runs: The contents of the folders of the folds, in their order.
        values: Arrays by name, one of each fold.

    Returns:
        ``ids``, the arrays, and the ``fold`` of each example, from 1; and the lesion or patient of
        each example, None if one fold does not know them.
    """
    sizes = [len(run.ids) for run in runs]
    arrays = {
        "ids": np.concatenate([run.ids for run in runs]),
        **{name: np.concatenate(of_folds) for name, of_folds in values.items()},
        "fold": np.repeat(np.arange(1, len(runs) + 1), sizes),
    }
    groups = [run.groups for run in runs if run.groups is not None]
    return arrays, np.concatenate(groups) if len(groups) == len(runs) else None


def write_joint_results(
    run_dir: Path,
    name: str,
    arrays: Mapping[str, np.ndarray],
    groups: Groups | None,
    results: Mapping[str, Any],
    runs: Sequence[RunFiles],
    metrics: Iterable[str],
) -> dict[str, Any]:
    """Write the predictions of all folds and ``test.json`` with their metrics.

    Args:
        run_dir: The folder of the cross-validation.
        name: Name of the npz file, without suffix.
        arrays: Those of the file.
        groups: Lesion or patient of each example; None if unknown.
        results: The metrics over all examples.
        runs: The contents of the folders of the folds, in their order.
        metrics: The metrics of each fold to list.

    Returns:
        The contents of ``test.json``: the results, and ``folds``, see :func:`summarize_folds`.
    """
    sizes = [len(run.ids) for run in runs]
    folds = summarize_folds([run.test for run in runs], sizes, list(metrics))
    test = {**results, "folds": folds}
    write_results(run_dir, name, arrays, groups, test)
    return test


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
        ``standard_deviation`` (of the sample, n - 1) of each metric over the folds. An undefined
        metric is None, and mean and deviation leave its fold out.
    """
    each = [
        {"fold": number, "size": int(size), **{name: test[name] for name in metrics}}
        for number, (test, size) in enumerate(zip(tests, sizes, strict=True), start=1)
    ]
    values = {
        name: np.array([test[name] for test in tests if test[name] is not None], np.float64)
        for name in metrics
    }
    return {
        "each": each,
        "mean": {n: float(found.mean()) if len(found) else None for n, found in values.items()},
        "standard_deviation": {
            n: float(found.std(ddof=1)) if len(found) > 1 else None for n, found in values.items()
        },
    }


def check_folds(
    path: Path, folds: Any, metrics: Sequence[str], total: int, *, nullable: bool = False
) -> None:
    """Raise UserError unless the entry ``folds`` of a ``test.json`` is complete and possible.

    Args:
        path: The file, for the error.
        folds: The entry.
        metrics: The metrics that it must list, in [0, 1].
        total: Number of test images or cases of all folds.
        nullable: Whether a metric may be undefined, None.
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
        are_valid = all(
            nullable if owner[name] is None else is_number(owner[name], -1e-9, 1 + 1e-9)
            for name in metrics
        )
        check(path, are_valid, "its folds have an impossible value of a metric")


def append_folds(
    table: str, test: Mapping[str, Any], titles: Mapping[str, str], examples: str
) -> str:
    """Append to a table a line per fold, and one with mean and standard deviation.

    Args:
        table: The table of the metrics over all folds.
        test: The contents of ``test.json``.
        titles: Metrics and their titles.
        examples: Plural noun for the examples.
    """
    folds, lines = test["folds"], [table, ""]
    for fold in folds["each"]:
        texts = (f"{title} {format_fraction(fold[name])}" for name, title in titles.items())
        size = f"{format_count(fold['size'])} {examples}"
        lines.append(f"fold {fold['fold']}: {', '.join(texts)} ({size})")
    mean, deviation = folds["mean"], folds["standard_deviation"]
    texts = (
        f"{title} {format_fraction(mean[name])} ± {format_fraction(deviation[name])}"
        for name, title in titles.items()
    )
    return "\n".join([*lines, f"mean ± standard deviation of the folds: {', '.join(texts)}"])


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
