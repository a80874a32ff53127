"""Write and read ``operating_points.json`` in the folder of a run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from lmf_jax.errors import UserError
from lmf_jax.evaluation.operating.rates import Rates
from lmf_jax.evaluation.operating.thresholds import Target
from lmf_jax.runs.atomic_files import write_atomically
from lmf_jax.runs.files import check, is_number, is_whole, parse, read_text, require

FILE_NAME = "operating_points.json"
MAX_NAME = 80
"""Maximum number of characters of a name."""
_OTHER_COLUMNS = ("path", "prediction", "probability", "set", "labels")
"""Columns of the output of predict, where the decision of a point stands under its name."""

Points = dict[str, dict[str, Any]]
"""Operating points by name, see :func:`lmf_jax.evaluation.operating.point.operating_point`."""


@runtime_checkable
class UsedCalibrator(Protocol):
    """The calibrator of a run of any task."""

    def used_parameters(self) -> dict[str, Any]:
        """Return the method with the parameters that it uses, JSON-serializable."""


_COUNTS = ("true_positives", "false_negatives", "false_positives", "true_negatives", "class_units")
_KEYS = (
    *("class", "target", "threshold", "guaranteed", "guarantee_level", "estimate", "bound"),
    *("drawn", "validation", "test", "prediction", "interval_level", "rates", "at_prevalence"),
    "calibrator",
)
_LARGEST_THRESHOLD = 1.001
"""A threshold slightly above 1 calls no image positive."""


def write_point(
    run_dir: str | Path,
    name: str,
    point: Mapping[str, Any],
    class_names: Sequence[str],
    calibrator: UsedCalibrator,
) -> Path:
    """Add an operating point to those of a run, or replace that of the same name.

    Args:
        run_dir: The folder of a run.
        name: Name of the point, printable and not empty, of at most 80 characters.
        point: Output of :func:`lmf_jax.evaluation.operating.point.operating_point`.
        class_names: Names of the classes of the run by class id.
        calibrator: The calibrator that its probabilities come from.

    Returns:
        The path of the file.

    Raises:
        UserError: If the file in the folder is broken, or the name is not possible.
    """
    check_name(name)
    points = read_points(run_dir, class_names)
    points[name] = {**point, "calibrator": calibrator.used_parameters()}
    path = Path(run_dir) / FILE_NAME
    text = json.dumps({"points": points}, indent=2, allow_nan=False)
    write_atomically(path, text + "\n")
    return path


def check_name(name: str) -> None:
    """Raise UserError unless a point can have this name."""
    if not _is_name(name):
        raise UserError(
            f"The name {name!r} is not possible; expected 1 to {MAX_NAME} printable characters, "
            f"and none of {', '.join(_OTHER_COLUMNS)}."
        )


def _is_name(name: str) -> bool:
    is_short = 0 < len(name) <= MAX_NAME
    is_text = is_short and name.isprintable() and name == name.strip()
    return is_text and name not in _OTHER_COLUMNS


def read_points(run_dir: str | Path, class_names: Sequence[str]) -> Points:
    """Read the operating points of a run; a run without ``operating_points.json`` has none.

    Args:
        run_dir: The folder of a run.
        class_names: Names of the classes of the run by class id.

    Raises:
        UserError: If the file is broken, or has other classes.
    """
    path = Path(run_dir) / FILE_NAME
    if not path.exists():
        return {}
    found = parse(path, read_text(path))
    require(path, found, ("points",))
    points = found["points"]
    check(path, isinstance(points, dict), "its points are not a mapping")
    for name, point in points.items():
        check(path, _is_name(name), "it has a point whose name is empty, long or not printable")
        _check_point(path, point, class_names, f"its point {name}")
    check(path, _is_finite(points), "it contains NaN or infinity")
    return points


def _is_finite(contents: Any) -> bool:
    """Return whether the contents can be written as strict JSON."""
    try:
        json.dumps(contents, allow_nan=False)
    except ValueError:
        return False
    return True


def read_point(
    run_dir: str | Path, name: str, class_names: Sequence[str], calibrator: UsedCalibrator
) -> dict[str, Any]:
    """Read one operating point, to decide with it.

    Args:
        run_dir: The folder of a run.
        name: Name of the point.
        class_names: Names of the classes of the run by class id.
        calibrator: The calibrator of the run.

    Raises:
        UserError: If there is no such point, or it was made with another calibrator.
    """
    points = read_points(run_dir, class_names)
    if name not in points:
        known = f"it has {', '.join(points)}" if points else "it has none"
        raise UserError(
            f"The run in {run_dir} has no operating point {name}; {known}. Make one with python -m "
            f"lmf_jax operate {run_dir} --class CLASS --sensitivity 0.95."
        )
    if not fits_calibrator(points[name], calibrator):
        raise UserError(
            f"The operating point {name} in {run_dir} was made with another calibrator than that "
            f"of the run; run python -m lmf_jax operate {run_dir} again."
        )
    return points[name]


def decisions(
    point: Mapping[str, Any], probabilities: Float[np.ndarray, "n classes"], names: Sequence[str]
) -> list[str]:
    """Return the decision of an operating point for each image, positive or negative.

    Args:
        point: From :func:`read_point`.
        probabilities: Calibrated, of each class or label ``[n, C]``.
        names: The ``C`` names of the classes or labels.
    """
    own = probabilities[:, list(names).index(point["class"])]
    found: list[str] = np.where(own >= point["threshold"], "positive", "negative").tolist()
    return found


def fits_calibrator(point: Mapping[str, Any], calibrator: UsedCalibrator) -> bool:
    """Return whether an operating point was made with this calibrator."""
    return bool(point["calibrator"] == calibrator.used_parameters())


def _check_point(path: Path, point: Any, class_names: Sequence[str], owner: str) -> None:
    require(path, point, _KEYS, owner)
    check(path, point["class"] in class_names, f"the class of {owner} is not one of the run")
    _check_target(path, point["target"], f"the target of {owner}")
    is_threshold = is_number(point["threshold"], 0, _LARGEST_THRESHOLD)
    check(path, is_threshold, f"the threshold of {owner} is not a number from 0 to 1")
    check(path, isinstance(point["guaranteed"], bool), f"guaranteed of {owner} is not a boolean")
    levels = [point["guarantee_level"], point["interval_level"]]
    check(path, all(is_number(level, 0, 1) for level in levels), f"{owner} has a level above 1")
    check(path, is_number(point["estimate"], 0), f"the estimate of {owner} is not a number")
    bound = point["bound"]
    is_bound = bound is None or is_number(bound, 0, 1)
    check(path, is_bound, f"the bound of {owner} is not a number from 0 to 1")
    is_promise = not point["guaranteed"] or bound is not None
    check(path, is_promise, f"{owner} is guaranteed without a bound")
    is_unit = point["drawn"] in ("images", "groups")
    check(path, is_unit, f"drawn of {owner} is neither images nor groups")
    for part in ("validation", "test"):
        require(path, point[part], _COUNTS, f"the {part} of {owner}")
        counts = [point[part][key] for key in _COUNTS]
        check(path, all(map(is_whole, counts)), f"the {part} of {owner} is not whole numbers")
    _check_prediction(path, point["prediction"], f"the prediction of {owner}")
    _check_rates(path, point["rates"], f"the rates of {owner}")
    if point["at_prevalence"] is not None:
        elsewhere, name = point["at_prevalence"], f"at_prevalence of {owner}"
        require(path, elsewhere, ("prevalence", "rates"), name)
        is_prevalence = is_number(elsewhere["prevalence"], 0, 1)
        check(path, is_prevalence, f"the prevalence of {owner} is not a number from 0 to 1")
        _check_rates(path, elsewhere["rates"], f"the rates {name}")
    check(
        path, isinstance(point["calibrator"], Mapping), f"the calibrator of {owner} is no mapping"
    )


def _check_target(path: Path, target: Any, owner: str) -> None:
    require(path, target, ("kind", "value"), owner)
    is_target = isinstance(target["kind"], str) and is_number(target["value"])
    try:
        if is_target:
            Target(target["kind"], float(target["value"]))
    except (ValueError, TypeError):
        is_target = False
    check(path, is_target, f"{owner} is not possible")


def _check_prediction(path: Path, prediction: Any, owner: str) -> None:
    require(path, prediction, ("level", "images", "sensitivity"), owner)
    ends = prediction["sensitivity"]
    is_pair = isinstance(ends, list) and len(ends) == 2 and all(is_number(e, 0, 1) for e in ends)
    is_valid = is_pair and is_number(prediction["level"], 0, 1) and is_whole(prediction["images"])
    check(path, is_valid, f"{owner} is not an interval, a level and a number of images")


def _check_rates(path: Path, rates: Any, owner: str) -> None:
    require(path, rates, Rates._fields, owner)
    for name in Rates._fields:
        estimate = rates[name]
        if estimate is None:
            continue
        require(path, estimate, ("value", "low", "high"), f"{name} of {owner}")
        ends = [estimate[key] for key in ("low", "value", "high")]
        is_valid = all(is_number(end, 0, 1.001) for end in ends) and ends == sorted(ends)
        check(path, is_valid, f"{name} of {owner} is not a fraction in its interval")
