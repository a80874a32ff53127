"""Write and read ``calibration.json`` in the folder of a run."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lmf_jax.evaluation.calibration.calibrator import METHODS, Calibrator
from lmf_jax.evaluation.calibration.scaling import TEMPERATURE_BOUNDS
from lmf_jax.runs.atomic_files import write_atomically
from lmf_jax.runs.files import check, is_number, is_whole, parse, read_text, require

FILE_NAME = "calibration.json"
_KEYS = ("method", "temperature", "vector", "class_names", "validation", "metrics")
_METRIC_KEYS = ("accuracy", "log_loss", "brier", "ece", "ece_interval", "validation_log_loss")
_LARGEST = sys.float_info.max
"""Upper bound of a log loss: that of finite logits can exceed the float32 maximum."""


def write_calibration(run_dir: Path, calibration: Mapping[str, Any]) -> None:
    """Write the output of :func:`lmf_jax.evaluation.calibration.summarize_calibration`."""
    text = json.dumps(calibration, indent=2, allow_nan=False)
    write_atomically(run_dir / FILE_NAME, text + "\n")


def read_calibration(run_dir: str | Path, num_classes: int) -> dict[str, Any] | None:
    """Read ``calibration.json``.

    Args:
        run_dir: The folder of a run.
        num_classes: Number of classes of the run.

    Returns:
        The contents, see :func:`lmf_jax.evaluation.calibration.summarize_calibration`; None for a
        run without the file.

    Raises:
        UserError: If the file is broken, or has another number of classes.
    """
    path = Path(run_dir) / FILE_NAME
    if not path.exists():
        return None
    found = parse(path, read_text(path))
    require(path, found, _KEYS)
    check(path, found["method"] in METHODS, f"its method is not one of {', '.join(METHODS)}")
    is_temperature = is_number(found["temperature"], *TEMPERATURE_BOUNDS)
    bounds = " to ".join(f"{bound:g}" for bound in TEMPERATURE_BOUNDS)
    check(path, is_temperature, f"its temperature is not a number from {bounds}")
    _check_vector(path, found["vector"], num_classes)
    names = found["class_names"]
    are_names = isinstance(names, list) and all(isinstance(name, str) for name in names)
    check(path, are_names and len(names) == num_classes, f"it has not {num_classes} class names")
    require(path, found["validation"], ("images", "units"), "its validation")
    counts = [found["validation"][key] for key in ("images", "units")]
    check(path, all(is_whole(count, 1) for count in counts), "its validation is not two counts")
    require(path, found["metrics"], METHODS, "its metrics")
    for method in METHODS:
        _check_metrics(path, found["metrics"][method], f"its metrics of {method}")
    return {key: found[key] for key in _KEYS}


def read_calibrator(run_dir: str | Path, num_classes: int) -> Calibrator:
    """Read the calibrator of a run; that of a run without ``calibration.json`` changes nothing.

    Args:
        run_dir: The folder of a run.
        num_classes: Number of classes of the run.

    Raises:
        UserError: If the file is broken, or has another number of classes.
    """
    found = read_calibration(run_dir, num_classes)
    return Calibrator.identity(num_classes) if found is None else calibrator_of(found)


def calibrator_of(calibration: Mapping[str, Any]) -> Calibrator:
    """Return the calibrator that the contents of ``calibration.json`` describe."""
    vector = calibration["vector"]
    return Calibrator(
        method=calibration["method"],
        temperature=float(calibration["temperature"]),
        weights=np.array(vector["weights"], np.float64),
        bias=np.array(vector["bias"], np.float64),
    )


def _check_vector(path: Path, vector: Any, num_classes: int) -> None:
    require(path, vector, ("weights", "bias"), "its vector")
    for name in ("weights", "bias"):
        values = vector[name]
        fits = isinstance(values, list) and len(values) == num_classes
        check(
            path,
            fits and all(map(is_number, values)),
            f"its {name} are not {num_classes} finite numbers",
        )


def _check_metrics(path: Path, metrics: Any, owner: str) -> None:
    require(path, metrics, _METRIC_KEYS, owner)
    for name, largest in {
        "log_loss": _LARGEST,
        "validation_log_loss": _LARGEST,
        "brier": 2.001,  # Up to rounding.
        "accuracy": 1,
        "ece": 1.001,
    }.items():
        is_valid = is_number(metrics[name], 0, largest)
        check(path, is_valid, f"{owner} have an impossible value of {name}")
    ends = metrics["ece_interval"]
    is_pair = isinstance(ends, list) and len(ends) == 2
    is_valid = is_pair and all(is_number(end, 0, 1.001) for end in ends)
    check(path, is_valid, f"{owner} hold no pair of possible values of ece")
