"""Write and read the test results in the folder of a segmentation run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Integer, Shaped

from lmf_jax.evaluation.segmentation.metrics import CASE_METRICS
from lmf_jax.evaluation.segmentation.overlays import Overlays, read_overlays
from lmf_jax.evaluation.segmentation.summary import Hd95Unit, summarize_test
from lmf_jax.npz import read_arrays
from lmf_jax.runs.atomic_files import write_results
from lmf_jax.runs.files import (
    SEGMENTATION,
    Finished,
    check,
    check_intervals,
    is_number,
    is_whole,
    missing,
    parse,
    read_history,
    read_record_of,
    read_text,
    read_timing,
    require,
)

HISTORY_KEYS = ("epoch", "train_loss", "val_loss", "val_dsc", "val_iou", "learning_rate")
HD95_UNITS = ("mm", "pixels")
LARGEST_CASES = 2**30
"""Bytes of ``cases.npz``: a million cases of 20 classes."""


@dataclass(frozen=True, kw_only=True)
class FinishedSegmentation(Finished):
    """The files of a run folder of segmentation, as training wrote them.

    Attributes:
        counts: true positives, false positives and false negatives of each test case and class,
            ``[n, C, 3]``.
        hd95: 95 % Hausdorff distance of each case and class ``[n, C]``, in ``test["hd95_unit"]``.
        overlays: images of the worst and the best cases; None where none were kept.
    """

    counts: Integer[np.ndarray, "n classes 3"]
    hd95: Float[np.ndarray, "n classes"]
    overlays: Overlays | None = None


def read_run(run_dir: str | Path) -> FinishedSegmentation:
    """Read the folder of a run of segmentation that has been trained and tested.

    Args:
        run_dir: the folder that ``train.py`` wrote.

    Returns:
        Its files, checked to hold what they must and to fit each other.

    Raises:
        UserError: if the folder or a file is missing, unreadable or incomplete, or the run is one
            of another task; it names the file.
    """
    run_dir = Path(run_dir)
    record = read_record_of(run_dir, SEGMENTATION)
    class_names = record["dataset"]["class_names"]
    check(run_dir / "config.json", len(class_names) > 1, "it has no class but the background")
    cases = _read_cases(run_dir / "cases.npz", len(class_names))
    return FinishedSegmentation(
        **record,
        history=read_history(run_dir / "metrics.jsonl", HISTORY_KEYS),
        timing=read_timing(run_dir / "timing.jsonl"),
        **cases,
        test=_read_test(run_dir / "test.json", class_names, **cases),
        overlays=read_overlays(run_dir, len(cases["ids"]), len(class_names)),
    )


def _read_cases(path: Path, num_classes: int) -> dict[str, Any]:
    if not path.exists():
        raise missing(path)
    names = ("ids", "counts", "hd95")
    found = read_arrays(path, largest=LARGEST_CASES, names=names, optional=("groups",))
    ids, counts, hd95 = (found[name] for name in names)
    groups = found.get("groups", ids)
    kinds = [array.dtype.kind for array in (ids, groups, hd95)]
    check(
        path,
        kinds == ["U", "U", "f"] and counts.dtype.kind in "iu",
        "its arrays are of other types than texts, whole numbers and distances",
    )
    n = ids.size
    fits = counts.shape == (n, num_classes, 3) and hd95.shape == (n, num_classes)
    check(
        path,
        fits and ids.shape == groups.shape == (n,),
        f"its ids {ids.shape}, counts {counts.shape} and hd95 {hd95.shape} do not fit each other "
        f"and {num_classes} classes",
    )
    check(path, n > 0 and len(np.unique(ids)) == n, "its ids are no names of different cases")
    are_counts = bool(np.all((counts >= 0) & (counts < 2**50)))
    check(path, are_counts, "its counts are no numbers of pixels or voxels")
    check(path, bool(np.all((hd95 >= 0) & (hd95 < 1e30))), "its hd95 are no distances")
    return {**found, "counts": counts.astype(np.int64)}  # sums of narrow ones would overflow


def _read_test(
    path: Path,
    class_names: Sequence[str],
    ids: np.ndarray,
    counts: np.ndarray,
    **_: np.ndarray,
) -> dict[str, Any]:
    """Read the metrics of these classes and cases."""
    test = parse(path, read_text(path))
    require(path, test, (*CASE_METRICS, "hd95_unit", "per_class", "per_case", "intervals"))
    check(path, test["hd95_unit"] in HD95_UNITS, "its hd95_unit is neither mm nor pixels")
    intervals = test["intervals"]
    require(path, intervals, ("level", "resamples", "drawn", "per_class"), "its intervals")
    check_intervals(path, intervals)
    _check_metrics(path, test, "it")
    _check_intervals(path, intervals, "it")
    for per_class in (test["per_class"], intervals["per_class"]):
        fits = isinstance(per_class, Mapping) and list(per_class) == list(class_names)
        check(path, fits, "its classes are not those of config.json")
    support = np.count_nonzero(counts[:, :, 0] + counts[:, :, 2], axis=0).tolist()
    for name, number in zip(class_names, support, strict=True):
        _check_metrics(path, test["per_class"][name], f"its class {name}")
        _check_intervals(path, intervals["per_class"][name], f"its class {name}")
        said = test["per_class"][name].get("support")
        fits = is_whole(said) and said == number
        check(path, fits, f"its class {name} has another support than in cases.npz")
    per_case = test["per_case"]
    fits = isinstance(per_case, Mapping) and list(per_case) == ids.tolist()
    check(path, fits, "its cases are not those of cases.npz")
    for metrics in per_case.values():
        _check_metrics(path, metrics, "a case of it")
    return test


def _check_metrics(path: Path, metrics: Any, owner: str) -> None:
    require(path, metrics, CASE_METRICS, owner)
    for name in CASE_METRICS:
        known = _is_metric(name, metrics[name])
        check(path, known, f"{owner} has a {name} that is none")


def _check_intervals(path: Path, intervals: Any, owner: str) -> None:
    require(path, intervals, CASE_METRICS, f"{owner}, in its intervals,")
    for name in CASE_METRICS:
        ends = intervals[name]
        is_pair = isinstance(ends, list) and len(ends) == 2
        known = is_pair and all(_is_metric(name, end) for end in ends)
        check(path, known, f"{owner} has an interval of {name} that is no pair of its values")


def _is_metric(name: str, value: Any) -> bool:
    return is_number(value, 0) if name == "hd95" else is_number(value, 0, 1)


def write_test(
    run_dir: Path,
    ids: Shaped[np.ndarray, " n"],
    counts: Int[np.ndarray, "n classes 3"],
    hd95: Float[np.ndarray, "n classes"],
    class_names: Sequence[str],
    groups: Shaped[np.ndarray, " n"] | None = None,
    unit: Hd95Unit = "mm",
) -> dict[str, Any]:
    """Write ``cases.npz`` and ``test.json`` of a segmentation, and return what the latter holds.

    Args:
        run_dir: the folder of the run.
        ids: name of each test case, unicode.
        counts: true positives, false positives and false negatives of each case and class.
        hd95: 95 % Hausdorff distance of each case and class.
        class_names: by class id, the background first.
        groups: patient or lesion of each case, where they are known.
        unit: of the distances.
    """
    results = summarize_test(ids, counts, hd95, class_names, groups, unit)
    arrays = {"ids": ids, "counts": counts.astype(np.int64), "hd95": hd95.astype(np.float64)}
    write_results(run_dir, "cases", arrays, groups, results)
    return results
