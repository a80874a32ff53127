"""Write and read the test results in the folder of a segmentation run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Integer, Shaped

from lmf_jax.evaluation.calibration import read_calibration
from lmf_jax.evaluation.folds import check_folds
from lmf_jax.evaluation.result_files import (
    MetricRules,
    check_metrics,
    read_test,
    read_test_arrays,
)
from lmf_jax.evaluation.segmentation.metrics import CASE_METRICS
from lmf_jax.evaluation.segmentation.overlays import Overlays, read_overlays
from lmf_jax.evaluation.segmentation.summary import Hd95Unit, summarize_test, true_sizes
from lmf_jax.runs.atomic_files import write_results
from lmf_jax.runs.files import (
    SEGMENTATION,
    RunFiles,
    check,
    is_number,
    num_folds,
    read_training_files,
    require,
)

METRIC_RULES = MetricRules(
    overall=CASE_METRICS,
    per_class=CASE_METRICS,
    is_valid=lambda name, value: is_number(value, 0) if name == "hd95" else is_number(value, 0, 1),
)
HISTORY_KEYS = ("epoch", "train_loss", "val_loss", "val_dsc", "val_iou", "learning_rate")
FOLD_METRICS = {"dsc": "DSC", "iou": "IoU"}
"""Metrics of each fold of a cross-validation, and their titles."""
HD95_UNITS = ("mm", "pixels")
MAX_CASES_BYTES = 2**30
"""Maximum size of ``cases.npz``: a million cases of 20 classes."""


@dataclass(frozen=True, kw_only=True)
class FinishedSegmentation(RunFiles):
    """Contents of the folder of a finished segmentation run.

    Attributes:
        counts: True positives, false positives and false negatives of each test case and class
            ``[n, C, 3]``.
        hd95: 95 % Hausdorff distance of each case and class ``[n, C]``, in ``test["hd95_unit"]``.
        overlays: Images of the worst, middle and best cases; None if they were not kept.
        calibration: Contents of ``calibration.json``, for pixels or voxels; None if the run has
            none.
    """

    counts: Integer[np.ndarray, "n classes 3"]
    hd95: Float[np.ndarray, "n classes"]
    calibration: Mapping[str, Any] | None = None
    overlays: Overlays | None = None


@dataclass(frozen=True, kw_only=True)
class CaseResults:
    """Measurements of the cases of a test.

    Attributes:
        ids: Names of the cases ``[n]``.
        counts: True positives, false positives and false negatives of each case and class
            ``[n, C, 3]``.
        hd95: 95 % Hausdorff distance of each case and class ``[n, C]``.
        groups: Lesion or patient of each case ``[n]``; None if unknown.
    """

    ids: Shaped[np.ndarray, " n"]
    counts: Integer[np.ndarray, "n classes 3"]
    hd95: Float[np.ndarray, "n classes"]
    groups: Shaped[np.ndarray, " n"] | None = None


def read_run(run_dir: str | Path) -> FinishedSegmentation:
    """Read the folder of a segmentation run that was trained and tested.

    Args:
        run_dir: The folder that ``train.py`` wrote.

    Returns:
        The contents of its files, checked to be complete and consistent.

    Raises:
        UserError: If the folder or a file is missing, unreadable or incomplete, or the run has
            another task; the message names the file.
    """
    run_dir = Path(run_dir)
    files = read_training_files(run_dir, SEGMENTATION, HISTORY_KEYS)
    class_names = files["dataset"]["class_names"]
    check(run_dir / "config.json", len(class_names) > 1, "it has no class but the background")
    cases, test = read_tested(run_dir, class_names)
    if num_folds(files) is not None or "folds" in test:
        require(run_dir / "test.json", test, ("folds",))
        check_folds(run_dir / "test.json", test["folds"], list(FOLD_METRICS), len(cases.ids))
    return FinishedSegmentation(
        **files,
        **vars(cases),
        test=test,
        calibration=read_calibration(run_dir, len(class_names)),
        overlays=read_overlays(run_dir, len(cases.ids), len(class_names)),
    )


def read_tested(folder: Path, class_names: Sequence[str]) -> tuple[CaseResults, dict[str, Any]]:
    """Read ``cases.npz`` and ``test.json`` of a test.

    Args:
        folder: The folder of a run, or of a test on another dataset.
        class_names: Names by class id, the background first.

    Raises:
        UserError: If a file is missing or broken, or the files do not match.
    """
    cases = CaseResults(**_read_cases(folder / "cases.npz", len(class_names)))
    counts = np.count_nonzero(true_sizes(cases.counts), axis=0).tolist()
    support = dict(zip(class_names, counts, strict=True))
    return cases, _read_test(folder / "test.json", support, cases.ids.tolist())


def _read_cases(path: Path, num_classes: int) -> dict[str, Any]:
    arrays = read_test_arrays(
        path,
        ("counts", (num_classes, 3)),
        ("hd95", (num_classes,)),
        num_classes=num_classes,
        max_bytes=MAX_CASES_BYTES,
    )
    ids, counts, hd95 = arrays["ids"], arrays["counts"], arrays["hd95"]
    check(path, 0 < len(ids) == len(np.unique(ids)), "its ids are not unique names of cases")
    are_counts = bool(np.all((counts >= 0) & (counts < 2**50)))
    check(path, are_counts, "its counts are not numbers of pixels or voxels")
    check(path, bool(np.all((hd95 >= 0) & (hd95 < 1e30))), "its hd95 are not distances")
    return {**arrays, "counts": counts.astype(np.int64)}  # Sums of narrow types would overflow.


def _read_test(path: Path, support: dict[str, int], ids: Sequence[str]) -> dict[str, Any]:
    test = read_test(path, METRIC_RULES, support, "cases.npz", ("hd95_unit", "per_case"))
    check(path, test["hd95_unit"] in HD95_UNITS, "its hd95_unit is neither mm nor pixels")
    per_case = test["per_case"]
    has_cases = isinstance(per_case, dict) and list(per_case) == list(ids)
    check(path, has_cases, "its cases are not those of cases.npz")
    for metrics in per_case.values():
        check_metrics(path, METRIC_RULES, CASE_METRICS, metrics, "a case of it")
    return test


def write_test(
    run_dir: Path,
    ids: Shaped[np.ndarray, " n"],
    counts: Int[np.ndarray, "n classes 3"],
    hd95: Float[np.ndarray, "n classes"],
    class_names: Sequence[str],
    groups: Shaped[np.ndarray, " n"] | None = None,
    unit: Hd95Unit = "mm",
) -> dict[str, Any]:
    """Write ``cases.npz`` and ``test.json``, and return the contents of the latter.

    Args:
        run_dir: The folder of the run.
        ids: Name of each test case, unicode.
        counts: True positives, false positives and false negatives of each case and class.
        hd95: 95 % Hausdorff distance of each case and class.
        class_names: Names by class id, the background first.
        groups: Lesion or patient of each case, if known.
        unit: Unit of the distances.
    """
    results = summarize_test(ids, counts, hd95, class_names, groups, unit)
    arrays = {"ids": ids, "counts": counts.astype(np.int64), "hd95": hd95.astype(np.float64)}
    write_results(run_dir, "cases", arrays, groups, results)
    return results
