"""``python -m lmf_jax``: the commands on finished runs, with a tiny model."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lmf_jax.evaluation import read_run
from lmf_jax.inference import classifier, image_model
from lmf_jax.training import classification
from tests.helpers.colored_images import draw_images
from tests.helpers.tiny_commands import run_lmf_jax, train
from tests.helpers.tiny_training import tiny_model, tiny_models

COUNTS = (60, 30, 20)


tiny = tiny_models(tiny_model, classification, image_model)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Images, and two runs on them."""
    root = tmp_path_factory.mktemp("commands")
    images = draw_images(root / "images", COUNTS)
    with pytest.MonkeyPatch.context() as patch:
        for loss in ("lmf", "ce"):
            words = ("--dataset", f"folder:{images}", "--data-dir", root / "data", "--loss", loss)
            train(patch, *words, "--run-dir", root / loss)
    return root


def read_test(run):
    return json.loads((run / "test.json").read_text())


def test_evaluating_a_run_again_gives_its_test(places, monkeypatch, capsys, tmp_path):
    run = shutil.copytree(places / "lmf", tmp_path / "run")
    for name in ("test.json", "predictions.npz", "report.html", "mistakes.npz"):
        (run / name).unlink()
    assert run_lmf_jax(monkeypatch, "evaluate", run) == 0
    assert read_test(run) == read_test(places / "lmf")
    printed = capsys.readouterr().out
    assert f"macro F1                 {read_test(run)['macro_f1']:.3f}" in printed
    assert (run / "report.html").read_text() == (places / "lmf" / "report.html").read_text()


def test_a_run_and_its_evaluation_write_the_same_calibration(places, monkeypatch, tmp_path):
    run = shutil.copytree(places / "lmf", tmp_path / "run")
    names = "calibration.json", "validation_predictions.npz"
    written = [(run / name).read_bytes() for name in names]
    for name in names:
        (run / name).unlink()
    assert run_lmf_jax(monkeypatch, "evaluate", run) == 0
    assert (run / names[0]).read_bytes() == written[0]
    trained, evaluated = read_run(places / "lmf"), read_run(run)
    assert trained.calibrator.temperature != 1
    np.testing.assert_array_equal(evaluated.validation.logits, trained.validation.logits)
    counts = np.bincount(trained.validation.labels, minlength=3).tolist()
    assert counts == trained.dataset["class_counts"]["validation"]
    in_both = set(trained.validation.ids) & set(trained.ids)
    assert len(trained.validation.ids) == sum(counts) and not in_both


def test_evaluating_the_validation_part_gives_the_score_of_the_best_epoch(
    places, monkeypatch, capsys
):
    before = read_test(places / "lmf")
    assert run_lmf_jax(monkeypatch, "evaluate", places / "lmf", "--split", "validation") == 0
    lines = (places / "lmf" / "metrics.jsonl").read_text().splitlines()
    best = max(json.loads(line)["val_macro_f1"] for line in lines)
    assert f"macro F1                 {best:.3f}" in capsys.readouterr().out
    assert read_test(places / "lmf") == before


def test_other_images_than_those_of_the_run_are_refused(places, monkeypatch, capsys, tmp_path):
    run = shutil.copytree(places / "lmf", tmp_path / "run")
    record = json.loads((run / "config.json").read_text())
    record["config"]["dataset"] = f"folder:{draw_images(tmp_path / 'others', COUNTS, seed=1)}"
    (run / "config.json").write_text(json.dumps(record))
    assert run_lmf_jax(monkeypatch, "evaluate", run) == 2
    assert "are not those that the run was trained with" in capsys.readouterr().err


def predictions_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_predictions_of_files_are_those_of_the_test(places, monkeypatch, tmp_path):
    output = tmp_path / "red.csv"
    folder = places / "images" / "red"
    assert run_lmf_jax(monkeypatch, "predict", places / "lmf", folder, "--output", output) == 0
    rows = predictions_of(output)
    assert [row["path"] for row in rows] == sorted(str(path) for path in folder.iterdir())
    with np.load(places / "lmf" / "predictions.npz") as file:
        tested = dict(zip(file["ids"], file["logits"].argmax(-1), strict=True))
    names = ["blue", "green", "red"]
    seen = 0
    for row in rows:
        shares = [float(row[f"p({name})"]) for name in names]
        assert sum(shares) == pytest.approx(1, abs=1e-5)
        assert row["prediction"] == names[int(np.argmax(shares))]
        assert float(row["probability"]) == max(shares)
        class_id = tested.get(f"red/{Path(row['path']).name}")
        if class_id is not None:
            assert row["prediction"] == names[class_id]
            seen += 1
    assert seen == 9


def read_probabilities(path):
    rows = predictions_of(path)
    return np.array(
        [[float(row[f"p({name})"]) for name in ("blue", "green", "red")] for row in rows]
    )


def predict_red(places, run, monkeypatch, output, *words):
    """Predict the red images; return their probabilities."""
    folder = places / "images" / "red"
    words = ("predict", run, folder, "--output", output, *words, "--overwrite")
    assert run_lmf_jax(monkeypatch, *words) == 0
    return read_probabilities(output)


def test_predicted_probabilities_are_calibrated(places, monkeypatch, capsys, tmp_path):
    run = places / "lmf"
    shown = predict_red(places, run, monkeypatch, tmp_path / "red.csv")
    calibrator = read_run(run).calibrator
    assert f"calibration: temperature {calibrator.temperature:.3f}" in capsys.readouterr().out
    trained = classifier.load_classifier(run)
    plain = dataclasses.replace(trained, calibrator=None)
    files = sorted((places / "images" / "red").iterdir())
    images = np.stack(
        [np.asarray(Image.open(file).convert("RGB").resize((32, 32))) for file in files]
    )
    calibrated, raw = trained.probabilities(images), plain.probabilities(images)
    np.testing.assert_allclose(calibrated, calibrator.probabilities(np.log(raw)), atol=1e-6)
    assert abs(calibrated - raw).max() > 0.01
    classes = [row["prediction"] for row in predictions_of(tmp_path / "red.csv")]
    assert classes == [("blue", "green", "red")[i] for i in shown.argmax(axis=1)]


def test_probabilities_follow_a_prevalence(places, monkeypatch, tmp_path):
    run, output = places / "lmf", tmp_path / "red.csv"
    plain = predict_red(places, run, monkeypatch, output)
    rare = predict_red(places, run, monkeypatch, output, "--prevalence", "red=0.01")
    counts = np.array(read_run(run).dataset["class_counts"]["validation"])
    factors = np.array([0.99 / counts[:2].sum(), 0.99 / counts[:2].sum(), 0.01 / counts[2]])
    expected = plain * factors / (plain * factors).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(rare, expected, atol=1e-4)  # six decimals of rare classes


def test_an_evaluation_chooses_and_keeps_the_calibration(places, monkeypatch, capsys, tmp_path):
    run = shutil.copytree(places / "lmf", tmp_path / "run")
    before, shown = read_test(run), {}
    for words, method in [
        (("--calibration", "vector"), "vector"),
        ((), "vector"),
        (("--calibration", "none"), "none"),
    ]:
        assert run_lmf_jax(monkeypatch, "evaluate", run, *words) == 0
        assert read_run(run).calibrator.method == method
        shown[method] = predict_red(places, run, monkeypatch, tmp_path / "red.csv")
    assert read_test(run) == before
    assert abs(shown["vector"] - shown["none"]).max() > 0.01
    printed = capsys.readouterr().out
    assert "calibrated (vector scaling): ECE" in printed
    assert "probabilities are not calibrated" in printed


def test_a_run_of_an_earlier_version_is_predicted_and_calibrated(
    places, monkeypatch, capsys, tmp_path
):
    run = shutil.copytree(places / "lmf", tmp_path / "run")
    for name in ("calibration.json", "validation_predictions.npz"):
        (run / name).unlink()
    before = predict_red(places, run, monkeypatch, tmp_path / "red.csv")
    assert "calibration: none" in capsys.readouterr().out
    words = ["predict", run, places / "images" / "red", "--output", tmp_path / "x.csv"]
    assert run_lmf_jax(monkeypatch, *words, "--prevalence", "red=0.1") == 2
    assert f"run python -m lmf_jax evaluate {run} first" in capsys.readouterr().err
    assert not (tmp_path / "x.csv").exists()
    assert run_lmf_jax(monkeypatch, "compare", run, places / "ce") == 0
    assert run_lmf_jax(monkeypatch, "evaluate", run) == 0
    after = predict_red(places, run, monkeypatch, tmp_path / "red.csv")
    np.testing.assert_array_equal(before.argmax(axis=1), after.argmax(axis=1))
    assert abs(before - after).max() > 0.01


def test_a_broken_image_is_named_and_the_others_are_done(places, monkeypatch, capsys, tmp_path):
    shutil.copy(places / "images" / "red" / "0.png", tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    output = tmp_path / "out.csv"
    assert run_lmf_jax(monkeypatch, "predict", places / "ce", tmp_path, "--output", output) == 2
    assert [Path(row["path"]).name for row in predictions_of(output)] == ["good.png"]
    printed = capsys.readouterr()
    assert "1 of 2 images predicted" in printed.out
    assert "Cannot decode" in printed.err and "bad.png (no known format)" in printed.err


def test_an_explanation_is_a_picture_of_the_size_of_the_image(
    places, monkeypatch, capsys, tmp_path
):
    image = places / "images" / "green" / "3.png"
    assert run_lmf_jax(monkeypatch, "explain", places / "lmf", image, "--output", tmp_path) == 0
    (picture,) = tmp_path.iterdir()
    name = picture.stem.removeprefix("3-")
    assert name in ("blue", "green", "red")
    printed = capsys.readouterr().out
    assert f"{image}: {name} (" in printed
    pixels = np.asarray(Image.open(image).convert("RGB").resize((32, 32)))[None]
    largest = classifier.load_classifier(places / "lmf").probabilities(pixels).max()
    assert float(printed.split("(")[1].split(")")[0]) == pytest.approx(largest, abs=0.02)
    with Image.open(picture) as explained:
        assert explained.size == (16, 12)


def test_a_comparison_names_both_runs_and_says_what_holds(places, monkeypatch, capsys):
    assert run_lmf_jax(monkeypatch, "compare", places / "lmf", places / "ce") == 0
    printed = capsys.readouterr().out
    assert "lmf" in printed and "ce" in printed and "McNemar" in printed


WRONG = {
    "no such run": ("evaluate {root}/none", "There is no run in {root}/none"),
    "a run without checkpoints": ("evaluate {empty}", "no checkpoint of a finished epoch"),
    "no such image": ("predict {root}/lmf {root}/none --output {root}/x.csv", "does not exist"),
    "no folder to write to": (
        "predict {root}/lmf {root}/images/red --output {root}/none/x.csv",
        "There is no folder {root}/none",
    ),
    "an unknown command": (
        "evaluat {root}/lmf",
        "There is no command evaluat; expected one of evaluate, predict, explain, compare, ",
    ),
    "a picture for a table": (
        "predict {root}/lmf {root}/images/red --output {root}/images/red/0.png",
        "is not a CSV file",
    ),
    "pictures of one name": (
        "explain {root}/lmf {root}/images/red {root}/images/blue --output {empty}",
        "Several images are called 0",
    ),
    "nothing to explain": ("explain {root}/lmf --output {empty}", "No image was given"),
    "a file for a folder": (
        "explain {root}/lmf {root}/images/red --output {root}/images/red/0.png",
        "0.png cannot be made",
    ),
    "a broken checkpoint": (
        "predict {torn} {root}/images/red --output {root}/x.csv",
        "is broken",
    ),
    "a prevalence of no class": (
        "predict {root}/lmf {root}/images/red --output {root}/x.csv --prevalence pink=0.1",
        "--prevalence pink=0.1: There is no class pink; the classes are blue, green, red.",
    ),
    "prevalences above 1": (
        "predict {root}/lmf {root}/images/red --output {root}/x.csv --prevalence red=0.6,blue=0.6",
        "The prevalences sum to 1.2 and leave nothing for green; expected less than 1.",
    ),
    "a calibration of another part": (
        "evaluate {root}/lmf --part train --calibration none",
        "--calibration is chosen with the test part of one run; leave out --part",
    ),
    "one run to compare": ("compare {root}/lmf", "two"),
    "an unknown part": ("evaluate {root}/lmf --split all", "--part is all"),
}


@pytest.mark.parametrize(("line", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_command_line_gets_one_clear_line(
    line, message, places, monkeypatch, capsys, tmp_path
):
    (tmp_path / "empty").mkdir()
    shutil.copy(places / "lmf" / "config.json", tmp_path / "empty")
    torn = shutil.copytree(places / "lmf", tmp_path / "torn")
    for record in torn.rglob("checkpoints/*/record/*"):
        record.write_text('{"input"')
    names = {"root": places, "empty": tmp_path / "empty", "torn": torn}
    assert run_lmf_jax(monkeypatch, *line.format(**names).split()) == 2
    printed = capsys.readouterr().err.strip()
    assert printed.startswith("lmf_jax: ") and "\n" not in printed
    assert message.format(**names) in printed


def test_the_sets_of_files_are_those_of_the_test(places, monkeypatch, capsys, tmp_path):
    run, output = shutil.copytree(places / "lmf", tmp_path / "run"), tmp_path / "red.csv"
    folder = places / "images" / "red"
    words = ["predict", run, folder, "--sets", "--output", output]
    assert run_lmf_jax(monkeypatch, *words) == 2
    assert f"has no prediction sets; run python -m lmf_jax sets {run}" in capsys.readouterr().err
    assert run_lmf_jax(monkeypatch, "sets", run, "--level", "0.6") == 0
    sets = json.loads((run / "prediction_sets.json").read_text())
    assert "prediction sets: " in capsys.readouterr().out
    assert "Prediction sets at 60 %" in (run / "report.html").read_text()

    assert run_lmf_jax(monkeypatch, *words) == 0
    assert "cannot be excluded at the level 0.6" in capsys.readouterr().out
    rows = predictions_of(output)
    assert list(rows[0])[-1] == "set"
    for row in rows:
        members = row["set"].split("|") if row["set"] else []
        for name, of_class in sets["per_class"].items():
            margin = float(row[f"p({name})"]) - of_class["threshold"]
            assert abs(margin) < 1e-6 or (name in members) == (margin > 0)
