"""Read and check the files that runs of every task write into their folders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from lmf_jax.config.checks import MAX_FOLDS
from lmf_jax.errors import UserError
from lmf_jax.json_text import parse_json
from lmf_jax.metadata_encoding import parse_encoding

EpochMetrics = dict[str, float | int]
"""A line of ``metrics.jsonl``: epoch, losses, validation metrics and learning rate."""


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """Contents of the folder of a trained and tested run that are common to all tasks.

    Attributes:
        config: The resolved settings, flat.
        dataset: ``name``, ``fingerprint``, ``class_names`` and ``class_counts`` of the parts
            "train", "validation" and "test", by class id; of a cross-validation, "test" counts all
            images and the others are means over the folds. For segmentation, the counts are pixels
            or voxels, and ``num_cases`` gives the number of cases of each part. With several labels
            per image, the classes are the labels, and ``negative_counts`` has the images without.
        versions: Versions of Python and of the packages used.
        git_commit: Commit of the checkout, None outside of one.
        device: ``platform``, ``kind``, ``count`` and ``process_count``.
        weights: Name of the ``file`` of pretrained weights and its ``sha256``; None if training
            started from random weights or the run predates this record.
        history: Lines of ``metrics.jsonl``, one per epoch; empty for a cross-validation, whose
            folds have them.
        timing: Lines of ``timing.jsonl``: ``epoch``, ``seconds``, ``images_per_second`` (None if
            the epoch had no step besides the compiling one); empty if the file is missing.
        ids: Names of the test images or cases ``[n]``.
        test: Contents of ``test.json``.
        groups: Lesion or patient of each test image or case ``[n]``; None if unknown.
    """

    config: Mapping[str, Any]
    dataset: Mapping[str, Any]
    versions: Mapping[str, str]
    git_commit: str | None
    device: Mapping[str, Any]
    weights: Mapping[str, str] | None = None
    history: Sequence[EpochMetrics]
    timing: Sequence[Mapping[str, Any]]
    ids: Shaped[np.ndarray, " n"]
    test: Mapping[str, Any]
    groups: Shaped[np.ndarray, " n"] | None = None


CLASSIFICATION, SEGMENTATION, MULTILABEL = "classification", "segmentation", "multilabel"
TASKS = (CLASSIFICATION, SEGMENTATION, MULTILABEL)
RECORD_KEYS = ("config", "dataset", "versions", "git_commit", "device")
TIMING_KEYS = ("epoch", "seconds", "images_per_second")
PARTS = ("train", "validation", "test")
_MAX_FLOAT32 = float(np.finfo(np.float32).max)
"""Upper bound of numbers in a file: a larger loss would have been infinite in float32."""


def task_of(record: Mapping[str, Any]) -> str:
    """Return the task of a run; runs that predate this setting are classification runs."""
    return record["config"].get("task", CLASSIFICATION)


def num_folds(record: Mapping[str, Any]) -> int | None:
    """Return the number of folds of a cross-validation; None for a run, such as one fold.

    Args:
        record: The contents of ``config.json``.
    """
    config = record["config"]
    return None if config.get("fold") is not None else config.get("folds")


def fold_dir(run_dir: str | Path, number: int) -> Path:
    """Return the folder of a fold.

    Args:
        run_dir: The folder of the cross-validation.
        number: The fold, from 1.
    """
    return Path(run_dir) / f"fold-{number}"


def common_task(run_dirs: Sequence[str | Path]) -> str:
    """Return the task of several runs.

    Raises:
        UserError: If a folder contains no run, or two runs have different tasks.
    """
    tasks = {str(run_dir): task_of(read_record(run_dir)) for run_dir in run_dirs}
    (first, task), *others = tasks.items()
    for run_dir, other in others:
        if other != task:
            raise UserError(
                f"The task of the run in {first} is {task} and that of {run_dir} is {other}; "
                "compare runs of one task."
            )
    return task


def read_training_files(run_dir: Path, task: str, history_keys: Sequence[str]) -> dict[str, Any]:
    """Read the record, the history and the timing of a run of one task.

    Args:
        run_dir: The folder that ``train.py`` wrote.
        task: The expected task.
        history_keys: Keys that every line of ``metrics.jsonl`` must have.

    Returns:
        Attributes of :class:`RunFiles`.

    Raises:
        UserError: If a file is missing or broken, or the run has another task.
    """
    record = read_record_of(run_dir, task)
    total = num_folds(record)
    if total is not None:
        folders = [fold_dir(run_dir, number) for number in range(1, total + 1)]
        timing = [line for folder in folders for line in read_timing(folder / "timing.jsonl")]
        return {**record, "history": [], "timing": timing}
    return {
        **record,
        "history": read_history(run_dir / "metrics.jsonl", history_keys),
        "timing": read_timing(run_dir / "timing.jsonl"),
    }


def read_record_of(run_dir: str | Path, task: str) -> dict[str, Any]:
    """Read ``config.json`` like :func:`read_record`, and refuse a run of another task."""
    record = read_record(run_dir)
    if task_of(record) != task:
        raise UserError(f"The task of the run in {run_dir} is {task_of(record)}; expected {task}.")
    return record


def read_record(run_dir: str | Path) -> dict[str, Any]:
    """Read the settings, the dataset and the environment of a run from ``config.json``.

    Args:
        run_dir: The folder that ``train.py`` wrote; the run need not be finished.

    Raises:
        UserError: If the folder or the file is missing, unreadable or incomplete.
    """
    path = Path(run_dir) / "config.json"
    if not path.is_file():
        raise UserError(f"There is no run in {run_dir}; expected a folder that train.py wrote.")
    record = parse(path, read_text(path))
    require(path, record, RECORD_KEYS)
    dataset, config, device = record["dataset"], record["config"], record["device"]
    require(path, dataset, ("name", "fingerprint", "class_names", "class_counts"), "its dataset")
    require(path, dataset["class_counts"], PARTS, "its class_counts")
    require(path, config, ("model", "loss", "max_margin", "seed"), "its config")
    require(path, device, ("platform", "kind", "count", "process_count"), "its device")
    texts = [dataset["name"], dataset["fingerprint"], config["model"], config["loss"]]
    texts += [device["platform"], device["kind"], record["git_commit"] or ""]
    check(path, all(isinstance(text, str) for text in texts), "it has a name that is not a string")
    task = config.get("task", CLASSIFICATION)
    check(path, task in TASKS, f"its task is not one of {', '.join(TASKS)}")
    _check_settings(path, config)
    _check_dataset(path, dataset, task)
    _check_metadata(path, config, dataset)
    _check_environment(path, record)
    return {key: record[key] for key in RECORD_KEYS} | {"weights": record.get("weights")}


def _check_settings(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse settings of impossible types; :class:`Config` checks the values."""
    for name, value in config.items():
        for item in value if isinstance(value, list) else [value]:
            is_setting = item is None or isinstance(item, (bool, str)) or is_number(item)
            check(path, is_setting, f"its {name} is neither a number nor a string")
        check(path, name.isprintable(), f"its setting {name} is not printable")
    folds, fold = config.get("folds"), config.get("fold")
    are_folds = folds is None or (is_whole(folds, 2) and folds <= MAX_FOLDS)
    check(path, are_folds, f"its folds are not a whole number from 2 to {MAX_FOLDS:,}")
    is_fold = fold is None or (folds is not None and is_whole(fold, 1) and fold <= folds)
    check(path, is_fold, "its fold is not one of its folds")
    check(path, is_number(config["max_margin"], 1e-30), "its max_margin is not a positive number")
    check(path, is_whole(config["seed"]), "its seed is not a whole number")


def _check_dataset(path: Path, dataset: Mapping[str, Any], task: str) -> None:
    _check_classes(path, dataset["class_names"], dataset["class_counts"])
    notes = dataset.get("split_notes", [])  # Runs of earlier versions have none.
    are_lines = isinstance(notes, list) and all(isinstance(note, str) for note in notes)
    are_printable = are_lines and all(map(str.isprintable, notes))
    check(path, are_printable, "its split_notes are not printable lines")
    limits = dataset.get("intensity_range", [0, 1])  # 8-bit images have none.
    are_limits = isinstance(limits, list) and [type(limit) for limit in limits] == [int, int]
    check(
        path,
        are_limits and -(2**15) <= limits[0] < limits[1] < 2**16,
        "its intensity_range is not a pair of 16-bit integers in increasing order",
    )
    if task == MULTILABEL:
        require(path, dataset, ("negative_counts",), "its dataset")
        require(path, dataset["negative_counts"], PARTS, "its negative_counts")
        _check_classes(path, dataset["class_names"], dataset["negative_counts"])
    if task == SEGMENTATION:
        require(path, dataset, ("num_cases",), "its dataset")
        require(path, dataset["num_cases"], PARTS, "its num_cases")
        numbers = (dataset["num_cases"][part] for part in PARTS)
        check(path, all(map(is_whole, numbers)), "its num_cases are not whole numbers")


def _check_metadata(path: Path, config: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
    """Refuse a broken encoding of the metadata, or one that the settings do not ask for."""
    is_whole_of_folds = config.get("folds") is not None and config.get("fold") is None
    has_encoding = config.get("metadata") is not None and not is_whole_of_folds
    check(
        path,
        ("metadata" in dataset) == has_encoding,
        "its dataset and its config differ in metadata",
    )
    if not has_encoding:
        return
    require(path, dataset, ("metadata_fingerprint",), "its dataset")
    is_text = isinstance(dataset["metadata_fingerprint"], str)
    check(path, is_text, "its metadata_fingerprint is not a string")
    try:
        parse_encoding(dataset["metadata"])
    except ValueError as error:
        raise broken(path, f"of its metadata, {error}") from error


def _check_classes(path: Path, names: Any, class_counts: Mapping[str, Any]) -> None:
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    check(path, is_list and len(names) > 0, "its class names are not a list of names")
    check(path, all(map(str.isprintable, names)), "it has a class name that is not printable")
    check(path, len(set(names)) == len(names), "its class names are not unique")
    check(path, set(class_counts) == set(PARTS), f"its class_counts are not {', '.join(PARTS)}")
    for part in PARTS:
        counts = class_counts[part]
        fits = isinstance(counts, list) and len(counts) == len(names)
        check(path, fits, f"its counts of the {part} part do not match its class names")
        check(path, all(map(is_whole, counts)), f"its counts of the {part} part are not integers")


def _check_environment(path: Path, record: Mapping[str, Any]) -> None:
    device, versions, weights = record["device"], record["versions"], record.get("weights")
    counts = device["count"], device["process_count"]
    check(path, all(is_whole(count, 1) for count in counts), "its device counts are not positive")
    are_texts = isinstance(versions, Mapping) and all(
        isinstance(version, str) for version in versions.values()
    )
    check(path, are_texts, "its versions are not strings")
    if weights is not None:
        require(path, weights, ("file", "sha256"), "its weights")
        texts = weights["file"], weights["sha256"]
        check(path, all(isinstance(text, str) for text in texts), "its weights are not strings")


def best_epoch(history: Sequence[EpochMetrics], metric: str = "val_macro_f1") -> EpochMetrics:
    """Return the epoch with the largest value of a metric, the first one of equal values.

    Args:
        history: Lines of ``metrics.jsonl``, at least one.
        metric: The metric that selects the best epoch.
    """
    return max(history, key=lambda entry: entry[metric])


def read_history(path: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Read ``metrics.jsonl``; every line must have the given keys and may have others."""
    entries = _read_lines(path, keys)
    for number, entry in enumerate(entries, start=1):
        are_numbers = all(is_number(entry[key]) for key in keys) and is_whole(entry["epoch"])
        check(path, are_numbers, f"its line {number} has a value that is not a finite number")
    return entries


def read_timing(path: Path) -> list[dict[str, Any]]:
    """Read ``timing.jsonl`` if it exists; a run that was killed at its end may lack it."""
    entries = _read_lines(path, TIMING_KEYS) if path.exists() else []
    for number, entry in enumerate(entries, start=1):
        speed = entry["images_per_second"]
        are_numbers = is_number(entry["seconds"], 0) and (speed is None or is_number(speed, 0))
        check(path, are_numbers, f"its line {number} has a value that is not a finite number")
    return entries


def _read_lines(path: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    entries = [parse(path, line) for line in read_text(path).splitlines()]
    if not entries:
        raise broken(path, "it has no epoch")
    for number, entry in enumerate(entries, start=1):
        require(path, entry, keys, f"its line {number}")
    return entries


def read_text(path: Path) -> str:
    """Read a text file of a run, or raise UserError if it is missing or unreadable."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise missing(path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise broken(path, f"it cannot be read ({error})") from error


def parse(path: Path, text: str) -> Any:
    """Parse JSON from a file of a run, or raise UserError if it is malformed."""
    try:
        return parse_json(text)
    except ValueError as error:
        raise broken(path, f"it is not JSON ({error})") from error


def require(path: Path, values: Any, keys: Sequence[str], owner: str = "it") -> None:
    """Raise UserError unless ``values``, named ``owner``, is a mapping with the given keys."""
    missing_keys = [key for key in keys if not isinstance(values, Mapping) or key not in values]
    if missing_keys:
        raise broken(path, f"{owner} lacks {', '.join(missing_keys)}")


def is_number(
    value: Any, low: float | int = -_MAX_FLOAT32, high: float | int = _MAX_FLOAT32
) -> bool:
    """Return whether a value is a finite number from ``low`` to ``high``."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and low <= value <= high


def is_fraction(value: Any) -> bool:
    """Return whether a value is a number in [-1, 1], up to rounding."""
    return is_number(value, -1.001, 1.001)  # Sums of float32 may slightly exceed 1.


def is_whole(value: Any, low: int = 0) -> bool:
    """Return whether a value is an integer of at least ``low``."""
    return isinstance(value, int) and is_number(value, low, 2**53)


def check(path: Path, holds: bool, reason: str) -> None:
    """Raise UserError with the reason unless the condition holds."""
    if not holds:
        raise broken(path, reason)


def missing(path: Path) -> UserError:
    """Return the error for a missing file."""
    return UserError(
        f"{path} is missing; expected the folder of a run that was trained and tested."
    )


def broken(path: Path, reason: str) -> UserError:
    """Return the error for a file with unexpected contents."""
    return UserError(f"{path} is broken: {reason}; run the training or the evaluation again.")
