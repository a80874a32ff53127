"""What a finished run left in its folder, read and checked once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer, Shaped

from lmf_jax.errors import UserError
from lmf_jax.evaluation.mistakes import Mistakes, read_mistakes
from lmf_jax.json_text import parse_json
from lmf_jax.npz import read_arrays

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
_LARGEST = 1e30
"""No loss, rate or time comes near it, and no axis of a figure is longer."""
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
    record = read_record(run_dir)
    class_names = record["dataset"]["class_names"]
    predictions = _read_predictions(run_dir / "predictions.npz", len(class_names))
    support = np.bincount(predictions["labels"], minlength=len(class_names)).tolist()
    return FinishedRun(
        **record,
        history=_read_history(run_dir / "metrics.jsonl"),
        timing=_read_timing(run_dir / "timing.jsonl"),
        **predictions,
        test=_read_test(run_dir / "test.json", dict(zip(class_names, support, strict=True))),
        mistakes=read_mistakes(run_dir, len(predictions["labels"])),
    )


def best_epoch(history: Sequence[EpochMetrics], score: str = "val_macro_f1") -> EpochMetrics:
    """Return the line of the epoch with the largest score; of equal ones the first.

    Args:
        history: the lines of ``metrics.jsonl``, at least one.
        score: the figure to choose by; of segmentation it is ``val_dsc``.
    """
    return max(history, key=lambda entry: entry[score])


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
    dataset, config, device = record["dataset"], record["config"], record["device"]
    _require(path, dataset, ("name", "fingerprint", "class_names", "class_counts"), "its dataset")
    _require(path, dataset["class_counts"], PARTS, "its class_counts")
    _require(path, config, ("model", "loss", "max_margin", "seed"), "its config")
    _require(path, device, ("platform", "kind", "count", "process_count"), "its device")
    texts = [dataset["name"], dataset["fingerprint"], config["model"], config["loss"]]
    texts += [device["platform"], device["kind"], record["git_commit"] or ""]
    _check(path, all(isinstance(text, str) for text in texts), "a name in it is no text")
    _check_settings(path, config)
    counts = device["count"], device["process_count"]
    _check(path, all(_is_whole(count, 1) for count in counts), "its device has no number")
    _check(
        path,
        isinstance(record["versions"], Mapping)
        and all(isinstance(version, str) for version in record["versions"].values()),
        "its versions are no texts",
    )
    _check_classes(path, dataset["class_names"], dataset["class_counts"])
    weights = record.get("weights")
    if weights is not None:
        _require(path, weights, ("file", "sha256"), "its weights")
        words = weights["file"], weights["sha256"]
        _check(path, all(isinstance(word, str) for word in words), "its weights have no name")
    parts = ("config", "dataset", "versions", "git_commit", "device")
    return {key: record[key] for key in parts} | {"weights": weights}


def _check_settings(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse settings that no run has; :class:`Config` says the rest, where one is made of them."""
    for name, value in config.items():
        known = value is None or isinstance(value, (bool, str)) or _is_number(value)
        _check(path, known, f"its {name} is neither a number nor a text")
        _check(path, name.isprintable(), f"its setting {name} does not print")
    _check(path, _is_number(config["max_margin"], 1e-30), "its max_margin is no number above 0")
    _check(path, _is_whole(config["seed"]), "its seed is no whole number")


def _check_classes(path: Path, names: Any, class_counts: Mapping[str, Any]) -> None:
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    _check(path, is_list and len(names) > 0, "its class names are no list of names")
    _check(path, all(map(str.isprintable, names)), "a class name in it does not print")
    _check(path, len(set(names)) == len(names), "it has a class name twice")
    _check(path, set(class_counts) == set(PARTS), "it counts other parts than its three")
    for part in PARTS:
        counts = class_counts[part]
        fits = isinstance(counts, list) and len(counts) == len(names)
        _check(path, fits, f"its counts of the {part} part do not fit its class names")
        _check(path, all(map(_is_whole, counts)), f"its counts of the {part} part are no numbers")


def _read_test(path: Path, support: Mapping[str, int]) -> dict[str, Any]:
    """Read the metrics of these classes, with so many test images each."""
    test = _parse(path, _read_text(path))
    _require(path, test, (*TEST_METRICS, "per_class", "intervals"))
    intervals = test["intervals"]
    keys = ("level", "resamples", "drawn", *TEST_METRICS, "per_class")
    _require(path, intervals, keys, "its intervals")
    known = _is_number(intervals["level"], 0, 1) and _is_whole(intervals["resamples"])
    _check(path, known and isinstance(intervals["drawn"], str), "its intervals do not say of what")
    _check_metrics(path, test, intervals, TEST_METRICS, "it")
    for per_class in (test["per_class"], intervals["per_class"]):
        fits = isinstance(per_class, Mapping) and list(per_class) == list(support)
        _check(path, fits, "its classes are not those of config.json")
        for name, metrics in per_class.items():
            _require(path, metrics, CLASS_METRICS, f"its class {name}")
    for name, metrics in test["per_class"].items():
        _require(path, metrics, ("support",), f"its class {name}")
        _check(
            path,
            _is_whole(metrics["support"]) and metrics["support"] == support[name],
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
        known = _is_fraction(value) or (may_lack and value is None)
        _check(path, known, f"{owner} has a {name} that is no fraction")
        is_pair = isinstance(ends, list) and len(ends) == 2
        if is_pair:
            known = all(map(_is_fraction, ends))
        else:
            known = ends is None and (value is None or "support" in values)
        _check(path, known, f"{owner} has an interval of {name} that is no pair of fractions")


def _read_lines(path: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    entries = [_parse(path, line) for line in _read_text(path).splitlines()]
    if not entries:
        raise _broken(path, "it holds no epoch")
    for number, entry in enumerate(entries, start=1):
        _require(path, entry, keys, f"its line {number}")
    return entries


def _read_history(path: Path) -> list[dict[str, Any]]:
    entries = _read_lines(path, HISTORY_KEYS)
    for number, entry in enumerate(entries, start=1):
        known = all(_is_number(entry[key]) for key in HISTORY_KEYS) and _is_whole(entry["epoch"])
        _check(path, known, f"its line {number} holds no numbers")
    return entries


def _read_timing(path: Path) -> list[dict[str, Any]]:
    """Read the file if it is there: a run that was killed while it ended may lack it."""
    entries = _read_lines(path, TIMING_KEYS) if path.exists() else []
    for number, entry in enumerate(entries, start=1):
        speed = entry["images_per_second"]
        known = _is_number(entry["seconds"], 0) and (speed is None or _is_number(speed, 0))
        _check(path, known, f"its line {number} holds no numbers")
    return entries


def _read_predictions(path: Path, num_classes: int) -> dict[str, Any]:
    if not path.exists():
        raise _missing(path)
    names = ("ids", "labels", "logits")
    found = read_arrays(path, largest=LARGEST_PREDICTIONS, names=names, optional=("groups",))
    ids, labels, logits = (found[name] for name in names)
    groups = found.get("groups", ids)
    kinds = [array.dtype.kind for array in (ids, groups, logits)]
    _check(
        path,
        kinds == ["U", "U", "f"] and labels.dtype.kind in "iu",
        "its arrays are of other types than texts, whole numbers and scores",
    )
    if logits.shape != (len(ids), num_classes) or not groups.shape == ids.shape == labels.shape:
        raise _broken(
            path,
            f"its ids {ids.shape}, labels {labels.shape} and logits {logits.shape} do not fit each "
            f"other and {num_classes} classes",
        )
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= num_classes:
        raise _broken(path, f"its labels are not class ids from 0 to {num_classes - 1}")
    if not np.isfinite(logits).all():
        raise _broken(path, "its logits hold NaN or infinity")
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
        return parse_json(text)
    except ValueError as error:
        raise _broken(path, f"it is not JSON ({error})") from error


def _require(path: Path, values: Any, keys: Sequence[str], owner: str = "it") -> None:
    missing = [key for key in keys if not isinstance(values, Mapping) or key not in values]
    if missing:
        raise _broken(path, f"{owner} lacks {', '.join(missing)}")


def _is_number(value: Any, low: float | int = -_LARGEST, high: float | int = _LARGEST) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and low <= value <= high


def _is_fraction(value: Any) -> bool:
    return _is_number(value, -1.001, 1.001)  # sums of float32 may pass 1 by a little


def _is_whole(value: Any, low: int = 0) -> bool:
    return isinstance(value, int) and _is_number(value, low, 2**53)


def _check(path: Path, holds: bool, reason: str) -> None:
    if not holds:
        raise _broken(path, reason)


def _missing(path: Path) -> UserError:
    return UserError(
        f"{path} is missing; expected the folder of a run that was trained and tested."
    )


def _broken(path: Path, reason: str) -> UserError:
    return UserError(f"{path} is broken: {reason}; run the training or the evaluation again.")
