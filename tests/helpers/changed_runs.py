"""Change one value of a file of a run to another valid value."""

import json
import math
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from lmf_jax.config import Config
from lmf_jax.config.task_settings import TASK_SETTINGS
from lmf_jax.documents.facts import EVERY_LINE, Fact
from lmf_jax.evaluation.conformal.thresholds import units_needed
from lmf_jax.evaluation.operating.thresholds import KINDS
from lmf_jax.models.registry import model_names

CHOICES: dict[str, tuple[str, ...]] = {
    name: get_args(choice)
    for section in Config.section_types().values()
    for name, kind in get_type_hints(section).items()
    for choice in (kind, *get_args(kind))
    if get_origin(choice) is Literal
}
"""The values of settings that have a few."""
CHOICES |= {
    "normalisation": CHOICES["normalization"],
    "hd95_unit": ("mm", "pixels"),
    "drawn": ("groups", "images"),
}


def change(run_dir: Path, fact: Fact, task: str) -> None:
    """Change the value that a fact names."""
    path = run_dir / fact.file
    if fact.file.endswith(".npz"):
        _change_arrays(run_dir, path, str(fact.key[0]))
    elif fact.key[:2] == ("dataset", "class_names"):
        _rename_class(run_dir, int(fact.key[2]) if len(fact.key) > 2 else 0)
    elif fact.file.endswith(".jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        line, *key = fact.key
        for number in range(len(lines)) if line == EVERY_LINE else [line]:
            lines[number] = _changed_at(lines[number], key, task)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    else:
        before = json.loads(path.read_text())
        values = _changed_at(json.loads(path.read_text()), fact.key, task)
        if path.name == "prediction_sets.json":
            _agree(values, fact.key)
        if fact.key[:2] == ("folds", "each") and fact.key[-1] == "size":
            _move_an_image(values["folds"]["each"], before["folds"]["each"], int(fact.key[2]))
        if path.name == "subgroups.json" and fact.key[0] == "columns":
            columns = (found["columns"][fact.key[1]] for found in (values, before))
            _agree_in_column(*columns, fact.key[2:])
        if path.name == "operating_points.json":
            _agree_in_point(run_dir, values["points"][fact.key[1]], fact.key[2:])
        path.write_text(json.dumps(values))


CALIBRATION_METHODS = {"none": "vector", "temperature": "vector", "vector": "none"}


def _changed_at(values: Any, key: Any, task: str) -> Any:
    place = values
    for part in key[:-1]:
        place = place[part]
    place[key[-1]] = other_value(place[key[-1]], key[-1], task)
    return values


def other_value(value: Any, name: str | int, task: str) -> Any:
    """Return another valid value of a key of this name."""
    if name == "kind" and value in KINDS:
        choices: tuple[str, ...] = KINDS
    elif name == "loss":
        choices = TASK_SETTINGS[task].loss_names()
    elif name == "model":
        choices = (*model_names(task), "another_model")
    else:
        choices = CHOICES.get(str(name), ()) if isinstance(value, str) else ()
        if name == "method" and value in CALIBRATION_METHODS:
            choices = (CALIBRATION_METHODS[value],)
    if choices:
        return next(choice for choice in choices if choice != value)
    if isinstance(value, dict):
        return {
            part: other_value(value[part], part, task) if i == 0 else value[part]
            for i, part in enumerate(value)
        }
    if isinstance(value, list):
        return [other_value(item, "", task) for item in value]
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return f"{value} changed"
    return 2.5 if value is None else _other_number(value)


def _other_number(value: float) -> float:
    if isinstance(value, int):
        return 3 * value + 7
    if math.fabs(value) <= 1:
        return value + 0.11 if value <= 0.8 else value - 0.11
    return 0.75 * value


def _agree(sets: dict[str, Any], changed: Any) -> None:
    """Make the other values of prediction sets agree with the one that was changed."""
    if changed == ("units_needed",):
        sets["level"] = (sets["level"] + 1) / 2
    if changed[-1] == "promised":
        row = sets["per_class"][changed[1]]
        row["units"] = 1000 if row["promised"] else 0
    sets["units_needed"] = units_needed(sets["level"])
    for threshold in (sets["pooled"], *sets["per_class"].values()):
        threshold["promised"] = threshold["units"] >= sets["units_needed"]
    for test in (sets["test"], *(row["test"] for row in sets["per_class"].values())):
        low, high = test["interval"]
        test["interval"] = [min(low, test["coverage"]), max(high, test["coverage"])]


def _agree_in_point(run_dir: Path, point: dict[str, Any], changed: Any) -> None:
    """Make the other values of an operating point agree with the one that was changed."""
    if changed == ("class",):
        names = json.loads((run_dir / "config.json").read_text())["dataset"]["class_names"]
        point["class"] = names[-1] if point["class"] == names[0] + " changed" else names[0]
    if changed == ("target", "kind"):
        point["target"]["value"] = min(point["target"]["value"], 0.9)
    if point["guaranteed"] and point["bound"] is None:
        point["bound"] = 0.5
    for rates in (point["rates"], point["at_prevalence"]["rates"]):
        for estimate in filter(None, rates.values()):
            order = ("low", "value", "high")
            fixed = changed[-1] if changed[-1] in order else "value"
            for name in order[: order.index(fixed)]:
                estimate[name] = min(estimate[name], estimate[fixed])
            for name in order[order.index(fixed) :]:
                estimate[name] = max(estimate[name], estimate[fixed])


def _move_an_image(folds: list[Any], before: list[Any], number: int) -> None:
    """Keep the number of images of all folds: one of a fold is in the next one."""
    folds[number]["size"] = before[number]["size"] - 1
    folds[number - 1]["size"] = before[number - 1]["size"] + 1


def _agree_in_column(column: dict[str, Any], before: dict[str, Any], changed: Any) -> None:
    """Keep the number of images: one of a subgroup becomes one without a value."""
    number = changed[1] if changed[0] == "subgroups" else 0
    subgroup, old = column["subgroups"][number], before["subgroups"][number]
    if changed[-1] in ("unknown", "images"):
        column["unknown"] = before["unknown"] + 1
        subgroup["images"] = old["images"] - 1
        subgroup["units"] = min(old["units"], subgroup["images"])
    elif changed[-1] == "units":
        subgroup["units"] = old["units"] - 1


def _rename_class(run_dir: Path, class_id: int) -> None:
    """Rename a class in every file that names it."""
    record = json.loads((run_dir / "config.json").read_text())
    old = record["dataset"]["class_names"][class_id]

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {renamed(key): renamed(item) for key, item in value.items()}
        if isinstance(value, list):
            return [renamed(item) for item in value]
        return "renamed" if value == old else value

    for path in run_dir.rglob("*.json"):
        path.write_text(json.dumps(renamed(json.loads(path.read_text()))))


def _change_arrays(run_dir: Path, path: Path, name: str) -> None:
    with np.load(path) as file:
        arrays = dict(file)
    if name == "labels":  # every image twice, and with it the support of every class
        arrays = {key: np.concatenate([array, array]) for key, array in arrays.items()}
        test = json.loads((run_dir / "test.json").read_text())
        for metrics in test["per_class"].values():
            metrics["support"] *= 2
        for fold in test.get("folds", {}).get("each", ()):
            fold["size"] *= 2
        (run_dir / "test.json").write_text(json.dumps(test))
        (run_dir / "subgroups.json").unlink(missing_ok=True)  # of the images as they were
    elif name == "groups":
        arrays["groups"] = np.full_like(arrays["groups"], "x")
    else:
        arrays[name] = np.roll(arrays[name], 1, axis=-1)
    np.savez(path, **arrays)
