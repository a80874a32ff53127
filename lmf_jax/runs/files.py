"""The files that every run leaves in its folder, whatever its task, and how they are checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from lmf_jax.errors import UserError
from lmf_jax.json_text import parse_json

EpochMetrics = dict[str, float | int]
"""A line of ``metrics.jsonl``: the epoch, its losses, validation metrics and learning rate."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What the folder of a trained and tested run holds, whatever its task.

    Attributes:
        config: the resolved settings, flat.
        dataset: ``name``, ``fingerprint``, ``class_names`` and ``class_counts`` of the parts
            "train", "validation" and "test", by class id; of a segmentation the counts are pixels
            or voxels, and ``num_cases`` says how many cases each part has.
        versions: version of each package that took part, and of Python.
        git_commit: commit of the checkout, None outside of one.
        device: ``platform``, ``kind``, ``count`` and ``process_count``.
        weights: name of the ``file`` that the training started from and its ``sha256``; None where
            it started from random weights, or the run is older than this record.
        history: the lines of ``metrics.jsonl``, one per epoch.
        timing: the lines of ``timing.jsonl``: ``epoch``, ``seconds``, ``images_per_second`` (None
            where only the step that compiled was run); none if the file is missing.
        ids: names of the test images or cases ``[n]``.
        test: the metrics of ``test.json``.
        groups: lesion or patient of each of them ``[n]``; None where they are not known.
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


CLASSIFICATION, SEGMENTATION = "classification", "segmentation"
TASKS = (CLASSIFICATION, SEGMENTATION)
TIMING_KEYS = ("epoch", "seconds", "images_per_second")
PARTS = ("train", "validation", "test")
_LARGEST = float(np.finfo(np.float32).max)
"""A loss that grows goes through all of float32 before it is infinite and ends the training."""


def task_of(record: Mapping[str, Any]) -> str:
    """Return the task of a run by its record; runs of before there were two are classifications."""
    return record["config"].get("task", CLASSIFICATION)


def common_task(run_dirs: Sequence[str | Path]) -> str:
    """Return the task of some runs.

    Raises:
        UserError: if a folder holds no run, or two runs have different tasks.
    """
    tasks = {str(run_dir): task_of(read_record(run_dir)) for run_dir in run_dirs}
    (first, task), *others = tasks.items()
    for run_dir, other in others:
        if other != task:
            raise UserError(
                f"The run in {first} is one of {task} and the one in {run_dir} of {other}; compare "
                "runs of one task."
            )
    return task


def read_record_of(run_dir: str | Path, task: str) -> dict[str, Any]:
    """Read the record of a run, as :func:`read_record`, and refuse one of another task."""
    record = read_record(run_dir)
    if task_of(record) != task:
        raise UserError(f"The run in {run_dir} is one of {task_of(record)}; expected {task}.")
    return record


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
    record = parse(path, read_text(path))
    require(path, record, ("config", "dataset", "versions", "git_commit", "device"))
    dataset, config, device = record["dataset"], record["config"], record["device"]
    require(path, dataset, ("name", "fingerprint", "class_names", "class_counts"), "its dataset")
    require(path, dataset["class_counts"], PARTS, "its class_counts")
    require(path, config, ("model", "loss", "max_margin", "seed"), "its config")
    require(path, device, ("platform", "kind", "count", "process_count"), "its device")
    texts = [dataset["name"], dataset["fingerprint"], config["model"], config["loss"]]
    texts += [device["platform"], device["kind"], record["git_commit"] or ""]
    check(path, all(isinstance(text, str) for text in texts), "a name in it is no text")
    check(path, config.get("task", CLASSIFICATION) in TASKS, "its task is none that there is")
    _check_settings(path, config)
    counts = device["count"], device["process_count"]
    check(path, all(is_whole(count, 1) for count in counts), "its device has no number")
    check(
        path,
        isinstance(record["versions"], Mapping)
        and all(isinstance(version, str) for version in record["versions"].values()),
        "its versions are no texts",
    )
    _check_classes(path, dataset["class_names"], dataset["class_counts"])
    notes = dataset.get("split_notes", [])  # runs of earlier versions have none
    are_lines = isinstance(notes, list) and all(isinstance(note, str) for note in notes)
    check(path, are_lines and all(map(str.isprintable, notes)), "its split_notes are no lines")
    limits = dataset.get("intensity_range", [0, 1])  # images of 8 bits have none
    are_limits = isinstance(limits, list) and len(limits) == 2 and all(map(is_whole, limits))
    check(path, are_limits and limits[0] < limits[1] < 2**16, "its intensity_range is none")
    if task_of(record) == SEGMENTATION:
        require(path, dataset, ("num_cases",), "its dataset")
        require(path, dataset["num_cases"], PARTS, "its num_cases")
        numbers = (dataset["num_cases"][part] for part in PARTS)
        check(path, all(map(is_whole, numbers)), "its num_cases are no numbers")
    weights = record.get("weights")
    if weights is not None:
        require(path, weights, ("file", "sha256"), "its weights")
        words = weights["file"], weights["sha256"]
        check(path, all(isinstance(word, str) for word in words), "its weights have no name")
    parts = ("config", "dataset", "versions", "git_commit", "device")
    return {key: record[key] for key in parts} | {"weights": weights}


def _check_settings(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse settings that no run has; :class:`Config` says the rest, where one is made of them."""
    for name, value in config.items():
        for part in value if isinstance(value, list) else [value]:
            known = part is None or isinstance(part, (bool, str)) or is_number(part)
            check(path, known, f"its {name} is neither a number nor a text")
        check(path, name.isprintable(), f"its setting {name} does not print")
    check(path, is_number(config["max_margin"], 1e-30), "its max_margin is no number above 0")
    check(path, is_whole(config["seed"]), "its seed is no whole number")


def _check_classes(path: Path, names: Any, class_counts: Mapping[str, Any]) -> None:
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    check(path, is_list and len(names) > 0, "its class names are no list of names")
    check(path, all(map(str.isprintable, names)), "a class name in it does not print")
    check(path, len(set(names)) == len(names), "it has a class name twice")
    check(path, set(class_counts) == set(PARTS), "it counts other parts than its three")
    for part in PARTS:
        counts = class_counts[part]
        fits = isinstance(counts, list) and len(counts) == len(names)
        check(path, fits, f"its counts of the {part} part do not fit its class names")
        check(path, all(map(is_whole, counts)), f"its counts of the {part} part are no numbers")


def best_epoch(history: Sequence[EpochMetrics], metric: str = "val_macro_f1") -> EpochMetrics:
    """Return the line of the epoch with the largest value of a metric; of equal ones the first.

    Args:
        history: the lines of ``metrics.jsonl``, at least one.
        metric: what the best epoch is chosen by.
    """
    return max(history, key=lambda entry: entry[metric])


def read_history(path: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Read ``metrics.jsonl``, whose lines hold these keys and maybe others."""
    entries = _read_lines(path, keys)
    for number, entry in enumerate(entries, start=1):
        known = all(is_number(entry[key]) for key in keys) and is_whole(entry["epoch"])
        check(path, known, f"its line {number} holds no numbers")
    return entries


def read_timing(path: Path) -> list[dict[str, Any]]:
    """Read ``timing.jsonl`` if it is there: a run that was killed while it ended may lack it."""
    entries = _read_lines(path, TIMING_KEYS) if path.exists() else []
    for number, entry in enumerate(entries, start=1):
        speed = entry["images_per_second"]
        known = is_number(entry["seconds"], 0) and (speed is None or is_number(speed, 0))
        check(path, known, f"its line {number} holds no numbers")
    return entries


def _read_lines(path: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    entries = [parse(path, line) for line in read_text(path).splitlines()]
    if not entries:
        raise broken(path, "it holds no epoch")
    for number, entry in enumerate(entries, start=1):
        require(path, entry, keys, f"its line {number}")
    return entries


def read_text(path: Path) -> str:
    """Return what a text file of a run holds, or say that it is missing or broken."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise missing(path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise broken(path, f"it cannot be read ({error})") from error


def parse(path: Path, text: str) -> Any:
    """Parse JSON that a file of a run holds, or say that the file is broken."""
    try:
        return parse_json(text)
    except ValueError as error:
        raise broken(path, f"it is not JSON ({error})") from error


def require(path: Path, values: Any, keys: Sequence[str], owner: str = "it") -> None:
    """Refuse a file whose ``owner`` is no mapping with these keys."""
    missing = [key for key in keys if not isinstance(values, Mapping) or key not in values]
    if missing:
        raise broken(path, f"{owner} lacks {', '.join(missing)}")


def is_number(value: Any, low: float | int = -_LARGEST, high: float | int = _LARGEST) -> bool:
    """Whether a value is a finite number from ``low`` to ``high``."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and low <= value <= high


def is_fraction(value: Any) -> bool:
    """Whether a value is a number from -1 to 1, or passes them by rounding."""
    return is_number(value, -1.001, 1.001)  # sums of float32 may pass 1 by a little


def is_whole(value: Any, low: int = 0) -> bool:
    """Whether a value is a whole number of at least ``low``."""
    return isinstance(value, int) and is_number(value, low, 2**53)


def check_intervals(path: Path, intervals: Mapping[str, Any]) -> None:
    """Refuse intervals that do not say of what they are; older files lack method and units."""
    known = is_number(intervals["level"], 0, 1) and is_whole(intervals["resamples"])
    known = known and isinstance(intervals["drawn"], str)
    known = known and isinstance(intervals.get("method", ""), str)
    units = intervals.get("units", {})
    known = known and isinstance(units, Mapping) and all(map(is_whole, units.values()))
    check(path, known, "its intervals do not say of what")


def check(path: Path, holds: bool, reason: str) -> None:
    """Refuse a file for a reason unless something holds."""
    if not holds:
        raise broken(path, reason)


def missing(path: Path) -> UserError:
    """Return what is said of a file that is not there."""
    return UserError(
        f"{path} is missing; expected the folder of a run that was trained and tested."
    )


def broken(path: Path, reason: str) -> UserError:
    """Return what is said of a file that is not what a run writes."""
    return UserError(f"{path} is broken: {reason}; run the training or the evaluation again.")
