"""Read the results of a test from the folder of a run, with the checks that all tasks share."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lmf_jax.npz import read_arrays
from lmf_jax.runs.files import (
    check,
    is_number,
    is_whole,
    missing,
    parse,
    read_text,
    require,
)


@dataclass(frozen=True)
class MetricRules:
    """Metrics that ``test.json`` must contain, and the values that they may have.

    Attributes:
        overall: Names of the metrics of the whole test.
        per_class: Names of the metrics of each class.
        is_valid: Called with the name and the value of a metric; returns whether it is possible.
        nullable: Metrics that may be None, together with their intervals.
        null_class_intervals: Whether any interval of a class may be None, as for an absent class.
    """

    overall: Sequence[str]
    per_class: Sequence[str]
    is_valid: Callable[[str, Any], bool]
    nullable: Collection[str] = ()
    null_class_intervals: bool = False


def read_test(
    path: Path,
    rules: MetricRules,
    support: Mapping[str, int],
    arrays_name: str,
    more_keys: Sequence[str] = (),
) -> dict[str, Any]:
    """Read ``test.json`` and check it against the arrays of the same test.

    Args:
        path: The file.
        rules: The metrics of the task.
        support: Number of test examples of each class, by class name, in the order of the classes.
        arrays_name: Name of the file that the support was counted in, for error messages.
        more_keys: Keys of the task besides metrics, ``per_class`` and ``intervals``.

    Raises:
        UserError: If the file is missing or broken, or does not match the support.
    """
    test = parse(path, read_text(path))
    require(path, test, (*rules.overall, *more_keys, "per_class", "intervals"))
    intervals = test["intervals"]
    require(path, intervals, ("level", "resamples", "drawn", "per_class"), "its intervals")
    _check_interval_settings(path, intervals)
    check_metrics(path, rules, rules.overall, test, "it")
    _check_intervals(path, rules, rules.overall, test, intervals, "its intervals")
    for per_class in (test["per_class"], intervals["per_class"]):
        has_classes = isinstance(per_class, Mapping) and list(per_class) == list(support)
        check(path, has_classes, "its classes are not those of config.json")
    for name, count in support.items():
        metrics, ends, owner = (
            test["per_class"][name],
            intervals["per_class"][name],
            f"class {name}",
        )
        require(path, metrics, ("support",), f"its {owner}")
        matches = is_whole(metrics["support"]) and metrics["support"] == count
        check(path, matches, f"its {owner} has another support than in {arrays_name}")
        check_metrics(path, rules, rules.per_class, metrics, f"its {owner}")
        _check_intervals(path, rules, rules.per_class, metrics, ends, f"the intervals of {owner}")
    return test


def check_metrics(
    path: Path, rules: MetricRules, names: Sequence[str], metrics: Any, owner: str
) -> None:
    """Raise UserError unless the metrics, named ``owner``, are complete and possible."""
    require(path, metrics, names, owner)
    for name in names:
        value = metrics[name]
        is_valid = name in rules.nullable if value is None else rules.is_valid(name, value)
        check(path, is_valid, f"{owner} has an impossible value of {name}")


def _check_intervals(
    path: Path,
    rules: MetricRules,
    names: Sequence[str],
    metrics: Mapping[str, Any],
    intervals: Any,
    owner: str,
) -> None:
    require(path, intervals, names, owner)
    for name in names:
        ends = intervals[name]
        if ends is None:
            is_absent_class = rules.null_class_intervals and "support" in metrics
            is_valid = metrics[name] is None or is_absent_class
        else:
            is_pair = isinstance(ends, list) and len(ends) == 2
            is_valid = is_pair and all(rules.is_valid(name, end) for end in ends)
        check(path, is_valid, f"{owner} hold no pair of possible values of {name}")


def _check_interval_settings(path: Path, intervals: Mapping[str, Any]) -> None:
    units = intervals.get("units", {})  # Older files lack method and units.
    are_valid = (
        is_number(intervals["level"], 0, 1)
        and is_whole(intervals["resamples"])
        and isinstance(intervals["drawn"], str)
        and isinstance(intervals.get("method", ""), str)
        and isinstance(units, Mapping)
        and all(map(is_whole, units.values()))
    )
    check(path, are_valid, "the settings of its intervals are not a level, counts and names")


def read_test_arrays(
    path: Path,
    integers: tuple[str, tuple[int, ...]],
    floats: tuple[str, tuple[int, ...]],
    *,
    num_classes: int,
    max_bytes: int,
) -> dict[str, np.ndarray]:
    """Read the arrays of a test: ids, one integer and one float array, and groups if known.

    Args:
        path: The npz file.
        integers: Name of the integer array and its shape for one example.
        floats: Name of the float array and its shape for one example.
        num_classes: Number of classes of the run, for error messages.
        max_bytes: Maximum size of the arrays.

    Raises:
        UserError: If the file is missing or broken, or the types or shapes are wrong.
    """
    if not path.exists():
        raise missing(path)
    shapes: dict[str, tuple[int, ...]] = {"ids": (), **dict([integers, floats])}
    arrays = read_arrays(path, largest=max_bytes, names=tuple(shapes), optional=("groups",))
    texts = [arrays[name] for name in ("ids", "groups") if name in arrays]
    has_kinds = (
        all(array.dtype.kind == "U" for array in texts)
        and arrays[integers[0]].dtype.kind in "iu"
        and arrays[floats[0]].dtype.kind == "f"
    )
    check(
        path,
        has_kinds,
        f"its arrays have wrong types; expected strings for ids and groups, integers for "
        f"{integers[0]} and floats for {floats[0]}",
    )
    n = arrays["ids"].size
    fits = all(arrays[name].shape == (n, *shape) for name, shape in shapes.items())
    fits = fits and arrays.get("groups", arrays["ids"]).shape == (n,)
    found = ", ".join(f"{name} {arrays[name].shape}" for name in shapes)
    check(path, fits, f"its shapes {found} do not match each other and {num_classes} classes")
    return arrays
