"""Write and read ``prediction_sets.json`` in the folder of a run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmf_jax.errors import UserError
from lmf_jax.evaluation.calibration.calibrator import Calibrator
from lmf_jax.evaluation.conformal.thresholds import SetThresholds, Threshold, units_needed
from lmf_jax.runs.atomic_files import write_atomically
from lmf_jax.runs.files import check, is_number, is_whole, parse, read_text, require

FILE_NAME = "prediction_sets.json"
_KEYS = ("level", "drawn", "units_needed", "pooled", "per_class", "test", "calibrator")
_THRESHOLD_KEYS = ("units", "promised", "threshold")
_TEST_KEYS = ("units", "images", "coverage", "interval", "size", "singletons", "empty")


def write_sets(run_dir: str | Path, sets: Mapping[str, Any], calibrator: Calibrator) -> Path:
    """Write prediction sets with the calibrator that their probabilities come from.

    Args:
        run_dir: The folder of a run.
        sets: Output of :func:`lmf_jax.evaluation.conformal.summary.summarize_sets`.
        calibrator: The calibrator of the run.

    Returns:
        The path of the file.
    """
    path = Path(run_dir) / FILE_NAME
    contents = {**sets, "calibrator": calibrator.used_parameters()}
    write_atomically(path, json.dumps(contents, indent=2, allow_nan=False) + "\n")
    return path


def read_sets(run_dir: str | Path, class_names: Sequence[str]) -> dict[str, Any] | None:
    """Read ``prediction_sets.json``.

    Args:
        run_dir: The folder of a run.
        class_names: Names of the classes of the run by class id.

    Returns:
        The contents, see :func:`lmf_jax.evaluation.conformal.summary.summarize_sets`, and
        ``calibrator``; None for a run without the file.

    Raises:
        UserError: If the file is broken, or has other classes.
    """
    path = Path(run_dir) / FILE_NAME
    if not path.exists():
        return None
    sets = parse(path, read_text(path))
    require(path, sets, _KEYS)
    level = sets["level"]
    is_level = is_number(level, 0, 1) and 0 < level < 1
    check(path, is_level, "its level is not a number between 0 and 1")
    check(path, sets["drawn"] in ("images", "groups"), "its drawn is neither images nor groups")
    needed = units_needed(level)
    check(path, sets["units_needed"] == needed, f"its units_needed are not {needed}")
    check(path, isinstance(sets["calibrator"], Mapping), "its calibrator is not a mapping")
    per_class = sets["per_class"]
    has_classes = isinstance(per_class, Mapping) and list(per_class) == list(class_names)
    check(path, has_classes, "its classes are not those of config.json")
    _check_threshold(path, sets["pooled"], needed, "its pooled threshold")
    _check_test(path, sets["test"], len(class_names), "its test")
    for name, row in per_class.items():
        _check_threshold(path, row, needed, f"its class {name}")
        require(path, row, ("test",), f"its class {name}")
        _check_test(path, row["test"], len(class_names), f"the test of its class {name}")
    return {key: sets[key] for key in _KEYS}


def fits_calibrator(sets: Mapping[str, Any], calibrator: Calibrator) -> bool:
    """Return whether prediction sets were made with this calibrator.

    Args:
        sets: Output of :func:`read_sets`.
        calibrator: The calibrator of the run.
    """
    return bool(sets["calibrator"] == calibrator.used_parameters())


def read_thresholds(
    run_dir: str | Path, class_names: Sequence[str], calibrator: Calibrator
) -> SetThresholds:
    """Read the thresholds of the prediction sets of a run, to predict with them.

    Args:
        run_dir: The folder of a run.
        class_names: Names of its classes by class id.
        calibrator: Its calibrator.

    Raises:
        UserError: If the file is missing or broken, or was made with another calibrator.
    """
    sets = read_sets(run_dir, class_names)
    if sets is None:
        raise UserError(
            f"The run in {run_dir} has no prediction sets; run python -m lmf_jax sets {run_dir} "
            "first."
        )
    if not fits_calibrator(sets, calibrator):
        raise UserError(
            f"The prediction sets in {run_dir} were made with another calibrator than that of the "
            f"run; run python -m lmf_jax sets {run_dir} --level {sets['level']:g} again."
        )
    return SetThresholds(
        sets["level"],
        tuple(_threshold_of(row) for row in sets["per_class"].values()),
        _threshold_of(sets["pooled"]),
    )


def _threshold_of(row: Mapping[str, Any]) -> Threshold:
    return Threshold(float(row["threshold"]), row["units"], row["promised"])


def _check_threshold(path: Path, row: Any, needed: int, owner: str) -> None:
    require(path, row, _THRESHOLD_KEYS, owner)
    check(path, is_whole(row["units"]), f"the units of {owner} are not a whole number")
    is_consistent = row["promised"] is (row["units"] >= needed)
    check(path, is_consistent, f"{owner} does not promise by its number of units")
    is_valid = is_number(row["threshold"], 0, 1)
    check(path, is_valid, f"the threshold of {owner} is not a number from 0 to 1")


def _check_test(path: Path, test: Any, num_classes: int, owner: str) -> None:
    require(path, test, _TEST_KEYS, owner)
    units, images = test["units"], test["images"]
    are_counts = is_whole(units) and is_whole(images) and units <= images
    check(path, are_counts, f"{owner} has not units and images in whole numbers")
    figures = [test[name] for name in _TEST_KEYS[2:]]
    if units == 0:
        check(path, not any(figures), f"{owner} has figures without images")
        return
    interval = test["interval"]
    is_pair = isinstance(interval, list) and len(interval) == 2
    fractions = [test["coverage"], test["singletons"], test["empty"]]
    are_valid = (
        is_pair
        and all(is_number(value, 0, 1) for value in [*fractions, *interval])
        and interval[0] <= test["coverage"] <= interval[1]
        and is_number(test["size"], 0, num_classes * 1.001)  # Up to rounding.
    )
    check(path, are_valid, f"{owner} has impossible coverage or sizes")
