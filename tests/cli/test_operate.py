"""``python -m lmf_jax operate`` and ``predict --operating-point``, from a tiny run on."""

import csv
import json
import shutil
from functools import partial

import pytest

from lmf_jax.evaluation import read_run
from lmf_jax.inference import image_model
from lmf_jax.training import classification
from tests.helpers.colored_images import draw_images
from tests.helpers.tiny_commands import run_lmf_jax, train
from tests.helpers.tiny_training import tiny_model, tiny_models

tiny = tiny_models(tiny_model, classification, image_model)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Images of three colors, and a run on them."""
    root = tmp_path_factory.mktemp("operate")
    images = draw_images(root / "images", (60, 30, 20))
    flat = root / "all"
    flat.mkdir()
    for image in sorted(images.rglob("*.png")):
        shutil.copy(image, flat / f"{image.parent.name}-{image.name}")
    words = ("--dataset", f"folder:{images}", "--data-dir", root / "data", "--run-dir")
    with pytest.MonkeyPatch.context() as patch:
        train(patch, *words, root / "run")
    return root


@pytest.fixture
def run(places, tmp_path):
    return shutil.copytree(places / "run", tmp_path / "run")


@pytest.fixture
def type_in(monkeypatch):
    """Return a function that runs ``python -m lmf_jax`` here and returns the exit code."""
    return partial(run_lmf_jax, monkeypatch)


def test_predictions_are_decided_at_the_threshold_that_operate_chose(
    places, run, type_in, capsys, tmp_path
):
    words = ["operate", run, "--class", "red", "--sensitivity", "0.9", "--prevalence", "0.02"]
    assert type_in(*words) == 0
    printed = capsys.readouterr().out
    assert "red, sensitivity of at least 0.9" in printed and "Not guaranteed" in printed
    assert f"stored: red-sensitivity-0.9 in {run}/operating_points.json" in printed
    point = json.loads((run / "operating_points.json").read_text())["points"]["red-sensitivity-0.9"]
    table = tmp_path / "out.csv"
    words = ["predict", run, places / "all", "--output", table]
    assert type_in(*words, "--operating-point", "red-sensitivity-0.9") == 0
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 110
    for row in rows:
        if abs(float(row["p(red)"]) - point["threshold"]) > 1e-6:
            is_positive = float(row["p(red)"]) >= point["threshold"]
            assert row["red-sensitivity-0.9"] == ("positive" if is_positive else "negative")
    assert len({row["red-sensitivity-0.9"] for row in rows}) == 2
    assert "red-sensitivity-0.9" in (run / "report.html").read_text()


def test_a_point_is_made_of_calibrated_probabilities(run, type_in):
    assert type_in("operate", run, "--class", "red", "--specificity", "0.8", "--name", "mine") == 0
    point = json.loads((run / "operating_points.json").read_text())["points"]["mine"]
    found = read_run(run)
    assert point["calibrator"]["temperature"] == found.calibrator.temperature != 1
    class_id = found.dataset["class_names"].index("red")
    own = found.calibrator.probabilities(found.logits)[:, class_id]
    expected = int(((own >= point["threshold"]) & (found.labels == class_id)).sum())
    assert point["test"]["true_positives"] == expected


def test_a_point_of_a_changed_calibration_is_refused(places, run, type_in, capsys, tmp_path):
    assert type_in("operate", run, "--class", "red", "--ppv", "0.3", "--name", "mine") == 0
    calibration = json.loads((run / "calibration.json").read_text())
    calibration["temperature"] *= 1.01
    (run / "calibration.json").write_text(json.dumps(calibration))
    words = ["predict", run, places / "all", "--output", tmp_path / "out.csv"]
    assert type_in(*words, "--operating-point", "mine") == 2
    assert "made with another calibrator" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--class", "red"], "none of --sensitivity"),
        (["--class", "red", "--ppv", "0.5", "--cost-ratio", "3"], "--ppv and --cost-ratio"),
        (["--class", "pink", "--ppv", "0.5"], "has no class pink; expected one of"),
        (["--class", "red", "--sensitivity", "95"], "The sensitivity is 95; expected above 0"),
        (["--class", "red", "--ppv", "0.5", "--prevalence", "2"], "--prevalence is 2"),
        (["--class", "red", "--ppv", "0.5", "--name", ""], "1 to 80 printable"),
    ],
)
def test_an_impossible_request_is_refused_in_one_line(run, type_in, capsys, words, message):
    assert type_in("operate", run, *words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (run / "operating_points.json").exists()


def test_a_run_without_validation_predictions_is_evaluated_first(run, type_in, capsys):
    (run / "validation_predictions.npz").unlink()
    assert type_in("operate", run, "--class", "red", "--sensitivity", "0.9") == 2
    assert f"python -m lmf_jax evaluate {run} first" in capsys.readouterr().err
