"""Write and read the test results in the folder of a classification run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Integer, Shaped

from lmf_jax.errors import UserError
from lmf_jax.evaluation.classification.mistakes import Mistakes, read_mistakes
from lmf_jax.evaluation.classification.summary import summarize_test
from lmf_jax.npz import read_arrays
from lmf_jax.runs.atomic_files import write_results
from lmf_jax.runs.files import (
    CLASSIFICATION,
    Finished,
    broken,
    check,
    check_intervals,
    is_fraction,
    is_whole,
    missing,
    parse,
    read_history,
    read_record_of,
    read_text,
    read_timing,
    require,
)


@dataclass(frozen=True, kw_only=True)
class FinishedRun(Finished):
    """The files of a run folder of classification, as training wrote them.

    Attributes:
        labels: class ids of the test images ``[n]``.
        logits: their scores ``[n, C]``.
        mistakes: the most confident ones; None where there is none.
    """

    labels: Integer[np.ndarray, " n"]
    logits: Float[np.ndarray, "n classes"]
    mistakes: Mistakes | None = None


TEST_METRICS = (
    "accuracy",
    "balanced_accuracy",
    "mcc",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "auroc",
    "average_precision",
    "ece",
)
CLASS_METRICS = ("precision", "recall", "f1", "auroc", "average_precision")
HISTORY_KEYS = ("epoch", "train_loss", "val_loss", "val_accuracy", "val_macro_f1", "learning_rate")
LARGEST_PREDICTIONS = 2**32
"""Bytes of ``predictions.npz``: a million images of a thousand classes."""


def read_run(run_dir: str | Path) -> FinishedRun:
    """Read the folder of a run that has been trained and tested.

    Args:
        run_dir: the folder that ``train.py`` wrote.

    Returns:
        Its files, checked to hold what they must and to fit each other.

    Raises:
        UserError: if the folder or a file is missing, unreadable or incomplete; it names the file.
    """
    run_dir = Path(run_dir)
    record = read_record_of(run_dir, CLASSIFICATION)
    class_names = record["dataset"]["class_names"]
    predictions = _read_predictions(run_dir / "predictions.npz", len(class_names))
    support = np.bincount(predictions["labels"], minlength=len(class_names)).tolist()
    return FinishedRun(
        **record,
        history=read_history(run_dir / "metrics.jsonl", HISTORY_KEYS),
        timing=read_timing(run_dir / "timing.jsonl"),
        **predictions,
        test=_read_test(run_dir / "test.json", dict(zip(class_names, support, strict=True))),
        mistakes=read_mistakes(run_dir, len(predictions["labels"])),
    )


def _read_test(path: Path, support: Mapping[str, int]) -> dict[str, Any]:
    """Read the metrics of these classes, with so many test images each."""
    test = parse(path, read_text(path))
    require(path, test, (*TEST_METRICS, "per_class", "intervals"))
    intervals = test["intervals"]
    keys = ("level", "resamples", "drawn", *TEST_METRICS, "per_class")
    require(path, intervals, keys, "its intervals")
    check_intervals(path, intervals)
    _check_metrics(path, test, intervals, TEST_METRICS, "it")
    for per_class in (test["per_class"], intervals["per_class"]):
        fits = isinstance(per_class, Mapping) and list(per_class) == list(support)
        check(path, fits, "its classes are not those of config.json")
        for name, metrics in per_class.items():
            require(path, metrics, CLASS_METRICS, f"its class {name}")
    for name, metrics in test["per_class"].items():
        require(path, metrics, ("support",), f"its class {name}")
        check(
            path,
            is_whole(metrics["support"]) and metrics["support"] == support[name],
            f"its class {name} has another support than in predictions.npz",
        )
        interval = intervals["per_class"][name]
        _check_metrics(path, metrics, interval, CLASS_METRICS, f"its class {name}")
    return test


def _check_metrics(
    path: Path,
    values: Mapping[str, Any],
    intervals: Mapping[str, Any],
    names: Sequence[str],
    owner: str,
) -> None:
    """Refuse metrics that are no fractions; where one is undefined, so is its interval."""
    for name in names:
        value, ends = values[name], intervals[name]
        # Of a class without a test image these are 0, by the rule of the macro mean.
        may_lack = name in ("auroc", "average_precision")
        known = is_fraction(value) or (may_lack and value is None)
        check(path, known, f"{owner} has a {name} that is no fraction")
        is_pair = isinstance(ends, list) and len(ends) == 2
        if is_pair:
            known = all(map(is_fraction, ends))
        else:
            known = ends is None and (value is None or "support" in values)
        check(path, known, f"{owner} has an interval of {name} that is no pair of fractions")


def _read_predictions(path: Path, num_classes: int) -> dict[str, Any]:
    if not path.exists():
        raise missing(path)
    names = ("ids", "labels", "logits")
    found = read_arrays(path, largest=LARGEST_PREDICTIONS, names=names, optional=("groups",))
    ids, labels, logits = (found[name] for name in names)
    groups = found.get("groups", ids)
    kinds = [array.dtype.kind for array in (ids, groups, logits)]
    check(
        path,
        kinds == ["U", "U", "f"] and labels.dtype.kind in "iu",
        "its arrays are of other types than texts, whole numbers and scores",
    )
    if logits.shape != (len(ids), num_classes) or not groups.shape == ids.shape == labels.shape:
        raise broken(
            path,
            f"its ids {ids.shape}, labels {labels.shape} and logits {logits.shape} do not fit each "
            f"other and {num_classes} classes",
        )
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= num_classes:
        raise broken(path, f"its labels are not class ids from 0 to {num_classes - 1}")
    if not np.isfinite(logits).all():
        raise broken(path, "its logits hold NaN or infinity")
    return found


def write_test(
    run_dir: Path,
    ids: Shaped[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    logits: Float[np.ndarray, "n classes"],
    class_names: Sequence[str],
    groups: Shaped[np.ndarray, " n"] | None = None,
) -> dict[str, Any]:
    """Write ``predictions.npz`` and ``test.json``, and return what the latter holds.

    Args:
        run_dir: the folder of the run.
        ids: name of each test example, unicode.
        labels: class id of each.
        logits: what the model said of each.
        class_names: by class id.
        groups: lesion or patient of each, where they are known.

    Raises:
        UserError: if a logit is NaN or infinite.
    """
    undefined = int((~np.isfinite(logits)).any(axis=-1).sum())
    if undefined:
        raise UserError(
            f"The model gives NaN or infinity for {undefined} of {len(logits)} test images; train "
            "again with a lower --learning-rate or in float32."
        )
    # Takes seconds: first, and then both files.
    results = summarize_test(labels, logits, class_names, groups)
    arrays = {"ids": ids, "labels": labels, "logits": logits}
    write_results(run_dir, "predictions", arrays, groups, results)
    return results
