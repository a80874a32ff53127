"""Ensembles, test-time augmentation and external tests by the commands, with tiny models."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from data.formats.images import decode_image
from lmf_jax.cli.members import load_ensemble
from lmf_jax.cli.tasks import TASKS
from lmf_jax.config import ImageSpec
from lmf_jax.evaluation.classification.external import read_external
from lmf_jax.inference import image_model
from lmf_jax.training import classification
from tests.helpers.colored_images import draw_images
from tests.helpers.tiny_commands import run_lmf_jax, train
from tests.helpers.tiny_training import tiny_model, tiny_models

pytestmark = pytest.mark.slow  # trains many models, by whole commands

NAMES = ["blue", "green", "red"]


tiny = tiny_models(tiny_model, classification, image_model)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two runs that differ in the seed, one with another split, and a cross-validation."""
    root = tmp_path_factory.mktemp("ensembles")
    images = draw_images(root / "images", (60, 30, 20))
    common = ("--dataset", f"folder:{images}", "--data-dir", root / "data")
    with pytest.MonkeyPatch.context() as patch:
        train(patch, *common, "--run-dir", root / "first")
        train(patch, *common, "--run-dir", root / "second", "--seed", 1)
        train(patch, *common, "--run-dir", root / "other", "--split-seed", 1, "--epochs", 1)
        train(patch, *common, "--run-dir", root / "folds", "--folds", 3, "--epochs", 1)
    return root


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Images of the same classes under other names, and of one class more."""
    folder = draw_images(tmp_path_factory.mktemp("elsewhere") / "images", (9, 8, 7), seed=5)
    (folder / "red").rename(folder / "rouge")
    (folder / "gray").mkdir()
    shutil.copy(folder / "blue" / "0.png", folder / "gray" / "gray.png")
    return folder


def probabilities_of(root, names, tta, images):
    task = TASKS["classification"]
    return load_ensemble(task, [root / name for name in names], tta).probabilities(images)


def test_the_probabilities_are_the_mean_over_models_and_views(root):
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    alone = [
        probabilities_of(root, [name], "none", x)
        for name in ("first", "second")
        for x in (images, mirrored)
    ]
    together = probabilities_of(root, ["first", "second"], "flip", images)
    np.testing.assert_allclose(together, np.mean(alone, axis=0), rtol=1e-6)


def test_views_of_a_view_are_the_same_set(root):
    """With all symmetries of a square, a turned image has the probabilities of the image."""
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    turned = np.ascontiguousarray(np.rot90(images, axes=(1, 2)))
    straight, rotated = (probabilities_of(root, ["first"], "dihedral", x) for x in (images, turned))
    np.testing.assert_allclose(straight, rotated, rtol=1e-5)
    assert abs(straight - probabilities_of(root, ["first"], "none", images)).max() > 1e-4


def test_an_ensemble_is_evaluated_and_compared_with_its_models(root, monkeypatch, capsys):
    before = (root / "first" / "test.json").read_bytes()
    code = run_lmf_jax(
        monkeypatch, "evaluate", root / "first", "--ensemble", root / "second", "--tta", "flip"
    )
    printed = capsys.readouterr().out
    assert code == 0
    assert "mean of 2 models and 2 views of each image: 4 predictions an image" in printed
    assert re.search(r"macro F1 of the models   \d\.\d{3}, \d\.\d{3}; mean \d\.\d{3}", printed)
    assert "ensemble less this mean" in printed
    assert (root / "first" / "test.json").read_bytes() == before


def test_views_of_one_model_are_evaluated(root, monkeypatch, capsys):
    assert run_lmf_jax(monkeypatch, "evaluate", root / "first", "--tta", "dihedral") == 0
    printed = capsys.readouterr().out
    assert "mean of 1 model and 8 views of each image: 8 predictions an image" in printed
    assert "of the models" not in printed


def test_predict_writes_the_mean_probabilities(root, monkeypatch, capsys, tmp_path):
    """The probabilities of the file are those of the ensemble, whose views are the same set."""
    words = (root / "images" / "green", "--ensemble", root / "second", "--tta", "flip")
    output = tmp_path / "out.csv"
    assert run_lmf_jax(monkeypatch, "predict", root / "first", *words, "--output", output) == 0
    printed = capsys.readouterr().out
    assert "calibration: that of each run, before averaging" in printed
    assert "4 predictions an image" in printed
    with output.open(newline="") as file:
        row = next(csv.DictReader(file))
    image = decode_image(Path(row["path"]).read_bytes(), ImageSpec(32, 32))
    batch = np.stack([image] * 4)
    expected = probabilities_of(root, ["first", "second"], "flip", batch)[0]
    found = [float(row[f"p({name})"]) for name in NAMES]
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_sets_are_refused_for_an_ensemble(root, monkeypatch, capsys, tmp_path):
    words = ("--output", tmp_path / "out.csv", "--tta", "flip", "--sets")
    code = run_lmf_jax(monkeypatch, "predict", root / "first", root / "images" / "green", *words)
    assert code == 2
    assert (
        "--sets uses thresholds that were chosen for the probabilities of one run"
        in capsys.readouterr().err
    )


def test_explain_averages_the_heat_of_models_and_views(root, monkeypatch, capsys, tmp_path):
    words = (root / "images" / "blue" / "0.png", "--ensemble", root / "second", "--tta", "flip")
    assert run_lmf_jax(monkeypatch, "explain", root / "first", *words, "--output", tmp_path) == 0
    (picture,) = tmp_path.glob("0-*.png")
    assert picture.name in capsys.readouterr().out


def test_runs_with_another_split_are_refused(root, monkeypatch, capsys):
    assert run_lmf_jax(monkeypatch, "evaluate", root / "first", "--ensemble", root / "other") == 2
    message = capsys.readouterr().err
    assert "one may have been trained on test images of the other" in message


def test_a_run_given_twice_is_refused(root, monkeypatch, capsys):
    assert run_lmf_jax(monkeypatch, "evaluate", root / "first", "--ensemble", root / "first") == 2
    assert "is given twice; give each run once" in capsys.readouterr().err


def test_a_run_is_tested_on_another_dataset(root, elsewhere, monkeypatch, capsys, tmp_path):
    run = shutil.copytree(root / "first", tmp_path / "run")
    own = (run / "test.json").read_bytes()
    words = ("evaluate", run, "--dataset", f"folder:{elsewhere}", "--map", "rouge=red,gray=")
    assert run_lmf_jax(monkeypatch, *words) == 0
    printed = capsys.readouterr().out
    assert "24 images; none has a lesion, patient or picture" in printed
    assert "mean of" not in printed
    (external,) = read_external(run, NAMES)
    supports = {name: external.test["per_class"][name]["support"] for name in NAMES}
    assert supports == {"blue": 7, "green": 8, "red": 9}
    assert external.record["map"] == {"rouge": "red", "gray": ""}
    assert external.record["transfer"]["per_class"]["red"]["other_prevalence"] == 9 / 24
    assert (run / "test.json").read_bytes() == own
    assert "change of recall" in printed
    report = (run / "report.html").read_text()
    assert f"<h2>Test on folder:{elsewhere}</h2>" in report
    assert "24 images." in report


def test_several_runs_are_tested_on_another_dataset(root, elsewhere, monkeypatch, capsys, tmp_path):
    run = shutil.copytree(root / "first", tmp_path / "run")
    words = ("--dataset", f"folder:{elsewhere}", "--map", "rouge=red,gray=", "--tta", "flip")
    assert run_lmf_jax(monkeypatch, "evaluate", run, "--ensemble", root / "second", *words) == 0
    (external,) = read_external(run, NAMES)
    assert len(external.record["members"]["macro_f1"]) == 2
    assert external.record["tta"] == "flip"
    assert external.record["predictions_per_image"] == 4
    assert external.name.endswith("-mean-of-4")
    printed = " ".join(capsys.readouterr().out.split())
    assert "the mean of 4 predictions, in the own test that of one model" in printed
    assert "the mean of 4 predictions" in (run / "report.html").read_text()


def test_images_that_were_trained_on_are_left_out(root, monkeypatch, capsys, tmp_path):
    """Half of the images of the other dataset are copies of images of the run."""
    run = shutil.copytree(root / "first", tmp_path / "run")
    other = draw_images(tmp_path / "other", (9, 8, 7), seed=6)
    with np.load(run / "predictions.npz") as file:
        tested = set(file["ids"].tolist())
    seen = [f"green/{i}.png" for i in range(30) if f"green/{i}.png" not in tested][:5]
    unseen = next(f"green/{i}.png" for i in range(30) if f"green/{i}.png" in tested)
    for number, name in enumerate([*seen, unseen]):
        shutil.copy(root / "images" / name, other / "green" / f"copy {number}.png")
    assert run_lmf_jax(monkeypatch, "evaluate", run, "--dataset", f"folder:{other}") == 0
    printed = capsys.readouterr().out
    assert "5 of 30 images were seen in training and are left out" in printed
    assert max(map(len, printed.splitlines()[:-1])) <= 80
    (external,) = read_external(run, NAMES)
    assert external.record["leakage"] == {
        "checked": True,
        "same_group": 0,
        "identical": 5,
        "near_identical": 0,
        "images": 5,
    }
    assert external.record["images"] == 25


def test_a_class_that_the_run_does_not_have_is_named(root, elsewhere, monkeypatch, capsys):
    words = ("evaluate", root / "first", "--dataset", f"folder:{elsewhere}", "--map", "rouge=red")
    assert run_lmf_jax(monkeypatch, *words) == 2
    message = capsys.readouterr().err
    assert "The run has no class gray; its classes are blue, green, red." in message
    assert "--map gray= to leave its images out" in message


@pytest.mark.parametrize(
    ("class_map", "expected"),
    [
        ("rouge", "expected OTHER=CLASS"),
        ("rouge=red,rouge=blue", "each once"),
        ("pink=red", "--map names pink, which"),
        ("rouge=,gray=,blue=,green=", "leaves no image"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(
    root, elsewhere, class_map, expected, monkeypatch, capsys
):
    words = ("evaluate", root / "first", "--dataset", f"folder:{elsewhere}", "--map", class_map)
    assert run_lmf_jax(monkeypatch, *words) == 2
    assert expected in capsys.readouterr().err


def test_without_the_data_of_the_run_leakage_is_recorded_as_not_checked(
    root, elsewhere, monkeypatch, capsys, tmp_path
):
    run = shutil.copytree(root / "first", tmp_path / "run")
    record = json.loads((run / "config.json").read_text())
    record["config"]["dataset"] = f"folder:{tmp_path / 'gone'}"
    (run / "config.json").write_text(json.dumps(record))
    words = ("evaluate", run, "--dataset", f"folder:{elsewhere}", "--map", "rouge=red,gray=")
    assert run_lmf_jax(monkeypatch, *words) == 0
    assert "Leakage from the training images was not checked" in capsys.readouterr().out
    (external,) = read_external(run, NAMES)
    assert external.record["leakage"]["checked"] is False


def test_the_folds_of_a_cross_validation_predict_together(root, monkeypatch, capsys, tmp_path):
    output, image = tmp_path / "out.csv", root / "images" / "green" / "0.png"
    assert run_lmf_jax(monkeypatch, "predict", root / "folds", image, "--output", output) == 0
    assert "mean of 3 models and 1 view of each image" in capsys.readouterr().out
    with output.open(newline="") as file:
        row = next(csv.DictReader(file))
    batch = np.stack([decode_image(image.read_bytes(), ImageSpec(32, 32))] * 4)
    folds = [f"folds/fold-{number}" for number in (1, 2, 3)]
    expected = np.mean([probabilities_of(root, [fold], "none", batch)[0] for fold in folds], axis=0)
    found = [float(row[f"p({name})"]) for name in NAMES]
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_folds_are_tested_together_on_another_dataset(
    root, elsewhere, monkeypatch, capsys, tmp_path
):
    run = shutil.copytree(root / "folds", tmp_path / "run")
    words = ("evaluate", run, "--dataset", f"folder:{elsewhere}", "--map", "rouge=red,gray=")
    assert run_lmf_jax(monkeypatch, *words) == 0
    (external,) = read_external(run, NAMES)
    assert len(external.record["members"]["macro_f1"]) == 3
    assert "Test on folder:" in (run / "report.html").read_text()


def test_views_of_the_folds_are_not_evaluated_on_their_own_images(root, monkeypatch, capsys):
    assert run_lmf_jax(monkeypatch, "evaluate", root / "folds", "--tta", "flip") == 2
    assert "one may have been trained on test images of the other" in capsys.readouterr().err
