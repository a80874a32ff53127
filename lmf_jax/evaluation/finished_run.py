"""What a finished run left in its folder, read and checked once."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer, Shaped

from lmf_jax.errors import UserError
from lmf_jax.evaluation.mistakes import Mistakes, read_mistakes

EpochMetrics = dict[str, float | int]
"""A line of ``metrics.jsonl``: the epoch, its losses, validation metrics and learning rate."""


@dataclass(frozen=True)
class FinishedRun:
    """The files of a run folder, as training wrote them.

    Attributes:
        config: the resolved settings, flat.
        dataset: ``name``, ``fingerprint``, ``class_names`` and ``class_counts`` of the parts
            "train", "validation" and "test", by class id.
        versions: version of each package that took part, and of Python.
        git_commit: commit of the checkout, None outside of one.
        device: ``platform``, ``kind``, ``count`` and ``process_count``.
        history: the lines of ``metrics.jsonl``, one per epoch.
        timing: the lines of ``timing.jsonl``: ``epoch``, ``seconds``, ``images_per_second`` (None
            where only the step that compiled was run); none if the file is missing.
        ids: names of the test images ``[n]``.
        labels: their class ids ``[n]``.
        logits: their scores ``[n, C]``.
        test: the metrics of ``test.json``.
        groups: lesion or patient of each test image ``[n]``; None where they are not known.
        mistakes: the most confident ones; None where there is none.
        weights: name of the ``file`` that the training started from and its ``sha256``; None where
            it started from random weights, or the run is older than this record.
    """

    config: Mapping[str, Any]
    dataset: Mapping[str, Any]
    versions: Mapping[str, str]
    git_commit: str | None
    device: Mapping[str, Any]
    history: Sequence[EpochMetrics]
    timing: Sequence[Mapping[str, Any]]
    ids: Shaped[np.ndarray, " n"]
    labels: Integer[np.ndarray, " n"]
    logits: Float[np.ndarray, "n classes"]
    test: Mapping[str, Any]
    groups: Shaped[np.ndarray, " n"] | None = None
    mistakes: Mistakes | None = None
    weights: Mapping[str, str] | None = None


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
TIMING_KEYS = ("epoch", "seconds", "images_per_second")
PARTS = ("train", "validation", "test")


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
    record = read_record(run_dir)
    class_names = record["dataset"]["class_names"]
    predictions = _read_predictions(run_dir / "predictions.npz", len(class_names))
    return FinishedRun(
        **record,
        history=_read_lines(run_dir / "metrics.jsonl", HISTORY_KEYS),
        timing=_read_timing(run_dir / "timing.jsonl"),
        **predictions,
        test=_read_test(run_dir / "test.json", class_names),
        mistakes=read_mistakes(run_dir),
    )


def best_epoch(history: Sequence[EpochMetrics]) -> EpochMetrics:
    """Return the line of the epoch with the largest validation macro F1; of equal ones the first.

    Args:
        history: the lines of ``metrics.jsonl``, at least one.
    """
    return max(history, key=lambda entry: entry["val_macro_f1"])


def read_record(run_dir: str | Path) -> dict[str, Any]:
    """Read what ``config.json`` says of a run: its settings, its data and what it runs on.

    Args:
        run_dir: the folder that ``train.py`` wrote, of a finished run or not.

    Raises:
        UserError: if the folder or the file is missing, unreadable or incomplete.
    """
    path = Path(run_dir) / "config.json"
    if not path.is_file():
        raise UserError(f"There is no run in {run_dir}; expected a folder that train.py wrote.")
    record = _parse(path, _read_text(path))
    _require(path, record, ("config", "dataset", "versions", "git_commit", "device"))
    dataset = record["dataset"]
    _require(path, dataset, ("name", "fingerprint", "class_names", "class_counts"), "its dataset")
    _require(path, dataset["class_counts"], PARTS, "its class_counts")
    _require(path, record["config"], ("model", "loss", "max_margin", "seed"), "its config")
    _require(path, record["device"], ("platform", "kind", "count", "process_count"), "its device")
    for part in PARTS:
        if len(dataset["class_counts"][part]) != len(dataset["class_names"]):
            raise _broken(path, f"its counts of the {part} part do not fit its class names")
    weights = record.get("weights")
    if weights is not None:
        _require(path, weights, ("file", "sha256"), "its weights")
    parts = ("config", "dataset", "versions", "git_commit", "device")
    return {key: record[key] for key in parts} | {"weights": weights}


def _read_test(path: Path, class_names: Sequence[str]) -> dict[str, Any]:
    test = _parse(path, _read_text(path))
    _require(path, test, (*TEST_METRICS, "per_class", "intervals"))
    intervals = test["intervals"]
    _require(
        path,
        intervals,
        ("level", "resamples", "drawn", *TEST_METRICS, "per_class"),
        "its intervals",
    )
    for per_class in (test["per_class"], intervals["per_class"]):
        if list(per_class) != list(class_names):
            raise _broken(path, "its classes are not those of config.json")
        for name, metrics in per_class.items():
            _require(path, metrics, CLASS_METRICS, f"its class {name}")
    for name, metrics in test["per_class"].items():
        _require(path, metrics, ("support",), f"its class {name}")
    return test


def _read_lines(path: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    entries = [_parse(path, line) for line in _read_text(path).splitlines()]
    if not entries:
        raise _broken(path, "it holds no epoch")
    for number, entry in enumerate(entries, start=1):
        _require(path, entry, keys, f"its line {number}")
    return entries


def _read_timing(path: Path) -> list[dict[str, Any]]:
    """Read the file if it is there: a run that was killed while it ended may lack it."""
    return _read_lines(path, TIMING_KEYS) if path.exists() else []


def _read_predictions(path: Path, num_classes: int) -> dict[str, Any]:
    try:
        # Opened here because NumPy leaves a file open that turns out to be no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in ("ids", "labels", "logits")}
            found |= {"groups": arrays["groups"]} if "groups" in arrays else {}
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise _broken(path, f"its arrays cannot be read ({error})") from error
    ids, labels, logits = (found[name] for name in ("ids", "labels", "logits"))
    fits = found.get("groups", ids).shape == ids.shape == labels.shape
    if logits.shape != (len(labels), num_classes) or not fits:
        raise _broken(
            path,
            f"its ids {ids.shape}, labels {labels.shape} and logits {logits.shape} do not fit each "
            f"other and {num_classes} classes",
        )
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= num_classes:
        raise _broken(path, f"its labels are not class ids from 0 to {num_classes - 1}")
    if np.isnan(logits).any():
        raise _broken(path, "its logits hold NaN")
    return found


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _broken(path, f"it cannot be read ({error})") from error


def _parse(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise _broken(path, f"it is not JSON ({error})") from error


def _require(path: Path, values: Any, keys: Sequence[str], owner: str = "it") -> None:
    missing = [key for key in keys if not isinstance(values, Mapping) or key not in values]
    if missing:
        raise _broken(path, f"{owner} lacks {', '.join(missing)}")


def _missing(path: Path) -> UserError:
    return UserError(
        f"{path} is missing; expected the folder of a run that was trained and tested."
    )


def _broken(path: Path, reason: str) -> UserError:
    return UserError(f"{path} is broken: {reason}; run the training or the evaluation again.")
