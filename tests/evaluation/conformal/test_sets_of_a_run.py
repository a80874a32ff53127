"""Prediction sets in the folder of a run: the file, its checks, the table and the report."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from lmf_jax.cli.sets import Sets, run_sets
from lmf_jax.errors import UserError
from lmf_jax.evaluation.calibration import Calibrator
from lmf_jax.evaluation.classification.run import read_run
from lmf_jax.evaluation.conformal.coverage import measure_sets
from lmf_jax.evaluation.conformal.file import (
    fits_calibrator,
    read_sets,
    read_thresholds,
    write_sets,
)
from lmf_jax.evaluation.conformal.summary import Part, format_sets, set_notes, summarize_sets
from lmf_jax.evaluation.conformal.thresholds import fit_sets
from lmf_jax.evaluation.report import write_report
from tests.evaluation.conftest import CLASS_NAMES
from tests.helpers.degenerate import nonsense_in

NONE = Calibrator.identity(3)


def part(labels, num_classes=3, seed=0, groups=None):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(labels), num_classes)) + 2 * np.eye(num_classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Part(np.asarray(labels), probabilities, groups)


def constant(labels, num_classes):
    return Part(np.asarray(labels), np.full((len(labels), num_classes), 1 / num_classes))


LABELS = np.repeat([0, 1, 2], [50, 20, 5])
SUMMARIES = {
    "usual": (part(LABELS), part(LABELS, seed=1), 3),
    "grouped": (part(LABELS, groups=np.array([f"{i // 3}" for i in range(75)])), part(LABELS), 3),
    "absent class": (part(np.zeros(60, int)), part(np.zeros(60, int)), 3),
    "class only in the test": (part(np.zeros(60, int)), part([0, 2, 2]), 3),
    "one image": (part([1]), part([1]), 3),
    "constant": (constant(LABELS, 3), constant(LABELS, 3), 3),
    "two classes": (part(LABELS // 2, 2), part(LABELS // 2, 2), 2),
    "thirty classes": (
        part(np.arange(900) % 30, 30),
        part(np.arange(900) % 30, 30, seed=1),
        30,
    ),
}


@pytest.fixture(params=SUMMARIES)
def summary(request):
    validation, test, num_classes = SUMMARIES[request.param]
    names = [f"class {number}" for number in range(num_classes)]
    return names, summarize_sets(validation, test, names, level=0.9)


def test_the_file_is_read_as_it_was_written_also_for_degenerate_data(summary, tmp_path):
    names, sets = summary
    calibrator = Calibrator.identity(len(names))
    write_sets(tmp_path, sets, calibrator)
    read = read_sets(tmp_path, names)
    assert read == {**sets, "calibrator": {"method": "none"}}
    assert fits_calibrator(read, calibrator)
    thresholds = read_thresholds(tmp_path, names, calibrator)
    assert [t.value for t in thresholds.classes] == [
        row["threshold"] for row in sets["per_class"].values()
    ]


def test_the_table_has_80_columns_and_no_nonsense(summary):
    _, sets = summary
    printed = format_sets(sets)
    assert max(map(len, printed.splitlines())) <= 80
    assert not nonsense_in(printed)
    for name, row in sets["per_class"].items():
        (line,) = [line for line in printed.splitlines() if line.startswith(f"{name} ")]
        assert line.split()[2] == f"{row['units']}" + ("" if row["promised"] else "*")
        assert ("n/a" in line) == (row["test"]["images"] == 0)


def test_the_figures_are_those_of_the_functions():
    validation, test, _ = SUMMARIES["grouped"]
    sets = summarize_sets(validation, test, ["a", "b", "c"], level=0.8)
    fitted = fit_sets(
        validation.is_class(), validation.probabilities, level=0.8, groups=validation.groups
    )
    classes, overall = measure_sets(fitted.contains(test.probabilities), test.is_class())
    assert sets["drawn"] == "groups" and sets["units_needed"] == 4
    for row, threshold, coverage in zip(
        sets["per_class"].values(), fitted.classes, classes, strict=True
    ):
        assert (row["units"], row["threshold"]) == (threshold.units, threshold.value)
        assert row["test"]["coverage"] == coverage.coverage
    assert sets["test"]["size"] == overall.size


def test_a_refused_class_is_named_with_the_units_that_it_has_and_needs():
    sets = summarize_sets(part(LABELS), part(LABELS), ["a", "b", "c"], level=0.9)
    promised, not_promised, refused = set_notes(sets)
    assert promised.startswith("Promised for each class without *") and "90 %" in promised
    assert not_promised.startswith("Not promised:")
    assert "No promise for c (5): 90 % needs 9 validation images" in refused
    enough = summarize_sets(part(LABELS), part(LABELS), ["a", "b", "c"], level=0.8)
    assert len(set_notes(enough)) == 2 and "*" not in format_sets(enough).split("units:")[0]


def test_nan_is_refused():
    broken = part(LABELS)
    broken.probabilities[3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        summarize_sets(part(LABELS), broken, ["a", "b", "c"], level=0.9)


@pytest.fixture
def stored(tmp_path):
    sets = summarize_sets(part(LABELS), part(LABELS, seed=1), ["a", "b", "c"], level=0.9)
    write_sets(tmp_path, sets, replace(NONE, method="temperature", temperature=2.5))
    return tmp_path


BROKEN = {
    "its level is not": lambda sets: sets.update(level=1),
    "its drawn is neither": lambda sets: sets.update(drawn="lesions"),
    "its units_needed are not 9": lambda sets: sets.update(units_needed=2),
    "its calibrator is not": lambda sets: sets.update(calibrator=None),
    "it lacks test": lambda sets: sets.pop("test"),
    "its classes are not those": lambda sets: sets["per_class"].pop("b"),
    "the threshold of its class b": lambda sets: sets["per_class"]["b"].update(threshold=1.5),
    "its class c does not promise": lambda sets: sets["per_class"]["c"].update(promised=True),
    "the units of its pooled": lambda sets: sets["pooled"].update(units="75"),
    "its test has impossible": lambda sets: sets["test"].update(coverage=None),
    "the test of its class a has impossible": lambda sets: sets["per_class"]["a"]["test"].update(
        size=float("nan")
    ),
    "the test of its class a has figures": lambda sets: sets["per_class"]["a"]["test"].update(
        units=0
    ),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_broken_file_is_refused_in_one_sentence(reason, stored):
    path = stored / "prediction_sets.json"
    sets = json.loads(path.read_text())
    BROKEN[reason](sets)
    path.write_text(json.dumps(sets))
    with pytest.raises(UserError, match=re.escape(f"{path} is broken: {reason}")):
        read_sets(stored, ["a", "b", "c"])


def test_another_calibrator_is_refused(stored):
    fitted = replace(NONE, method="temperature", temperature=2.5)
    assert read_thresholds(stored, ["a", "b", "c"], fitted).level == 0.9
    for changed in (NONE, replace(fitted, temperature=2.4), replace(fitted, method="vector")):
        with pytest.raises(UserError, match=r"another calibrator .* sets .* --level 0.9 again"):
            read_thresholds(stored, ["a", "b", "c"], changed)


def test_a_run_without_sets_is_told_to_make_them(tmp_path):
    assert read_sets(tmp_path, ["a"]) is None
    with pytest.raises(UserError, match=f"run python -m lmf_jax sets {tmp_path} first"):
        read_thresholds(tmp_path, ["a"], NONE)


def test_the_command_writes_the_sets_of_the_calibrated_probabilities(calibrated_dir, capsys, drawn):
    run_sets(Sets(str(calibrated_dir), level=0.9))
    run = read_run(calibrated_dir)
    sets = read_sets(calibrated_dir, CLASS_NAMES)
    assert fits_calibrator(sets, run.calibrator) and sets["drawn"] == "groups"
    assert run.calibrator.method == "temperature"
    fitted = fit_sets(
        run.validation.labels[:, None] == np.arange(10),
        run.calibrator.probabilities(run.validation.logits),
        level=0.9,
        groups=run.validation.groups,
    )
    rows = list(sets["per_class"].values())
    assert [row["threshold"] for row in rows] == [t.value for t in fitted.classes]
    assert [row["promised"] for row in rows] == [True] * 8 + [False] * 2
    printed = capsys.readouterr().out
    assert "No promise for class 8" in " ".join(printed.split())

    page = (calibrated_dir / "report.html").read_text()
    assert "Prediction sets at 90 %" in page and "No promise for class 8" in page
    assert f"<td>{rows[9]['units']}*</td>" in page


def test_the_report_has_no_section_without_sets_and_says_when_they_are_outdated(
    calibrated_dir, drawn
):
    assert "Prediction sets" not in write_report(calibrated_dir).read_text()
    run_sets(Sets(str(calibrated_dir)))
    path = calibrated_dir / "prediction_sets.json"
    sets = json.loads(path.read_text())
    sets["calibrator"]["temperature"] += 1
    path.write_text(json.dumps(sets))
    page = write_report(calibrated_dir).read_text()
    assert "were made with another calibrator" in page and "Empty sets" not in page


@pytest.mark.parametrize("level", [0.0, 1.0, 90.0, float("nan")])
def test_a_level_outside_0_and_1_is_refused(level, tmp_path):
    with pytest.raises(UserError, match="expected a number between 0 and 1"):
        run_sets(Sets(str(tmp_path), level=level))


def test_a_run_of_an_earlier_version_is_told_to_evaluate_again(run_dir):
    with pytest.raises(UserError, match=f"run python -m lmf_jax evaluate {run_dir} first"):
        run_sets(Sets(str(run_dir)))
