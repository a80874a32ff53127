"""Operating points of a run: stored, read, described and shown in the report."""

import dataclasses
import json
import re

import numpy as np
import pytest

from lmf_jax.errors import UserError
from lmf_jax.evaluation.calibration import Calibrator
from lmf_jax.evaluation.classification.run import read_run
from lmf_jax.evaluation.operating.description import describe_point
from lmf_jax.evaluation.operating.file import read_point, read_points, write_point
from lmf_jax.evaluation.operating.point import ClassPart, operating_point
from lmf_jax.evaluation.operating.section import class_curves, curve_figures, operating_section
from lmf_jax.evaluation.operating.thresholds import Target
from tests.helpers.degenerate import classifier_tests, nonsense_in

NAMES = ["nevus", "melanoma"]
TEMPERATURE = {"method": "temperature", "temperature": 1.5}


CALIBRATOR = Calibrator("temperature", 1.5, np.ones(2), np.zeros(2))


def part(seed, n=600, groups=None):
    rng = np.random.default_rng(seed)
    is_class = rng.random(n) < 0.2
    return ClassPart(is_class, 1 / (1 + np.exp(-rng.normal(np.where(is_class, 1.5, -1.5)))), groups)


def make(target=("sensitivity", 0.9), validation=None, test=None, **settings):
    validation, test = validation or part(0), test or part(1)
    return operating_point("melanoma", Target(*target), validation, test, **settings)


def test_a_point_has_the_counts_and_rates_of_its_threshold():
    validation, test = part(0), part(1)
    point = make(validation=validation, test=test, prevalence=0.02)
    positive = test.probability >= point["threshold"]
    assert point["test"]["true_positives"] == (positive & test.is_class).sum()
    assert point["test"]["false_positives"] == (positive & ~test.is_class).sum()
    sensitivity = positive[test.is_class].mean()
    assert point["rates"]["sensitivity"]["value"] == pytest.approx(sensitivity)
    assert point["at_prevalence"]["prevalence"] == 0.02
    assert point["at_prevalence"]["rates"]["ppv"]["value"] < point["rates"]["ppv"]["value"]
    low, high = point["prediction"]["sensitivity"]
    assert point["prediction"]["images"] == test.is_class.sum() and low < 0.9 < high


def test_points_are_stored_by_name_and_replaced(tmp_path):
    assert read_points(tmp_path, NAMES) == {}
    first, second = make(), make(("specificity", 0.9))
    write_point(tmp_path, "one", first, NAMES, CALIBRATOR)
    write_point(tmp_path, "two", first, NAMES, CALIBRATOR)
    write_point(tmp_path, "two", second, NAMES, CALIBRATOR)
    found = read_points(tmp_path, NAMES)
    assert found == {
        "one": first | {"calibrator": TEMPERATURE},
        "two": second | {"calibrator": TEMPERATURE},
    }
    assert read_point(tmp_path, "two", NAMES, CALIBRATOR)["threshold"] == second["threshold"]


def test_a_point_of_another_calibrator_is_refused(tmp_path):
    write_point(tmp_path, "one", make(), NAMES, CALIBRATOR)
    with pytest.raises(UserError, match=r"another calibrator .* operate .* again"):
        read_point(tmp_path, "one", NAMES, dataclasses.replace(CALIBRATOR, temperature=1.6))


def test_an_unknown_point_is_refused_with_the_known_ones(tmp_path):
    write_point(tmp_path, "one", make(), NAMES, CALIBRATOR)
    with pytest.raises(UserError, match="no operating point two; it has one"):
        read_point(tmp_path, "two", NAMES, CALIBRATOR)


@pytest.mark.parametrize("name", ["", " a", "a\nb", "x" * 81, "set"])
def test_an_impossible_name_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="1 to 80 printable"):
        write_point(tmp_path, name, make(), NAMES, CALIBRATOR)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("class",), "psoriasis"),
        (("class",), ["nevus"]),
        (("threshold",), float("nan")),
        (("threshold",), 1.5),
        (("threshold",), "0.5"),
        (("guaranteed",), 1),
        (("bound",), None),
        (("target", "kind"), "f1"),
        (("target", "kind"), []),
        (("target", "value"), 2.0),
        (("drawn",), "pixels"),
        (("validation", "true_positives"), -1),
        (("test",), []),
        (("prediction", "sensitivity"), [0.5]),
        (("rates", "ppv"), {"value": 0.5, "low": 0.6, "high": 0.7}),
        (("rates", "npv", "high"), 2),
        (("at_prevalence",), {"prevalence": 2, "rates": {}}),
        (("calibrator",), "temperature"),
        (("calibrator", "temperature"), float("inf")),
        (("unknown",), float("nan")),
    ],
)
def test_a_broken_file_is_refused(tmp_path, path, value):
    write_point(tmp_path, "one", make(), NAMES, CALIBRATOR)
    file = tmp_path / "operating_points.json"
    contents = json.loads(file.read_text())
    owner = contents["points"]["one"]
    for key in path[:-1]:
        owner = owner[key]
    owner[path[-1]] = value
    file.write_text(json.dumps(contents))
    with pytest.raises(UserError, match=r"operating_points\.json is broken"):
        read_points(tmp_path, NAMES)


def sentences(point):
    text = describe_point(point)
    assert max(map(len, text.split("\n"))) <= 80
    assert nonsense_in(text) == []
    return " ".join(text.split())


def test_a_point_is_described_in_plain_words():
    point = make(prevalence=0.02)
    text = sentences(point)
    found = point["test"]["true_positives"] / sum(
        point["test"][k] for k in ("true_positives", "false_negatives")
    )
    assert "melanoma, sensitivity of at least 0.9" in text
    assert f"finds {100 * found:.0f} of 100 images of melanoma [" in text
    assert "Guaranteed: with 95 % confidence, the sensitivity on new images" in text
    assert re.search(
        r"Where 2\.0 of 100 images are of melanoma: calls \d+ of 100 images positive", text
    )
    assert "Expected from validation: to find" in text and "differs" not in text


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (("sensitivity", 1.0), "no number of images can show a sensitivity of 1"),
        (("sensitivity", 0.999), "needs at least 2,995 independent validation images of the class"),
        (("ppv", 0.97), "Not guaranteed: the validation images are too few to show a PPV"),
        (("cost_ratio", 20.0), "No guarantee is made for a cost ratio"),
    ],
)
def test_a_point_without_a_guarantee_says_why(target, expected):
    point = make(target)
    assert not point["guaranteed"] and expected in sentences(point)


def test_a_test_part_unlike_the_validation_part_is_named():
    test = part(1)
    point = make(test=test._replace(probability=test.probability**3))
    assert "The test part differs from the validation part." in sentences(point)


@pytest.mark.parametrize("name", [n for n in classifier_tests() if n != "one_class"])
def test_degenerate_tests_have_points_that_can_be_stored_and_described(tmp_path, name):
    test = classifier_tests()[name]
    exponentials = np.exp(test.logits.astype(float) / 10)
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    for class_id in range(min(3, test.logits.shape[1])):
        found = ClassPart(test.labels == class_id, probabilities[:, class_id], test.groups)
        validation = part(0) if test.groups is None else part(0, groups=np.full(600, ""))
        point = make(validation=validation, test=found, prevalence=0.1)
        write_point(tmp_path, f"point {class_id}", point, NAMES, CALIBRATOR)
        assert sentences(point)
    points = read_points(tmp_path, NAMES)
    curves = class_curves(test.labels, probabilities, test.class_names, test.groups)
    assert len(curves) <= 7 and len(curve_figures(curves, points)) in (0, 3)
    section = operating_section(points, CALIBRATOR, curves, len(test.class_names))
    assert len(section["rows"]) == len(points) and section["outdated"] == []


def test_the_report_has_the_points_of_the_run_and_marks_them(calibrated_dir, drawn):
    from lmf_jax.evaluation.report import write_report
    from tests.helpers.page import Page

    run = read_run(calibrated_dir)
    names = run.dataset["class_names"]
    own = run.calibrator.probabilities(run.logits)[:, 0]
    whole = ClassPart(run.labels == 0, own)
    point = operating_point(names[0], Target("sensitivity", 0.9), whole, whole)
    write_point(calibrated_dir, "mine", point, names, run.calibrator)
    changed = dataclasses.replace(run.calibrator, temperature=123.0)
    write_point(calibrated_dir, "old one", point, names, changed)
    text = " ".join(Page(write_report(calibrated_dir).read_text()).text.split())
    assert "mine" in text and "sensitivity of at least 0.9" in text
    assert "old one: made with another calibrator" in text
    assert "7 of 10 classes: the rarest" in text
    figures = {path.stem for path in drawn if calibrated_dir in path.parents}
    assert {"roc", "precision_recall", "decision_curve"} <= figures
