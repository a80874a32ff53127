"""Ensembles, test-time augmentation and external tests of multi-label runs, by the commands."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.formats.images import decode_image
from lmf_jax.cli.members import load_ensemble
from lmf_jax.cli.tasks import TASKS
from lmf_jax.config import ImageSpec
from lmf_jax.inference import image_model
from lmf_jax.training import classification
from tests.helpers.labeled_images import draw_labeled_images
from tests.helpers.tiny_commands import run_lmf_jax, train
from tests.helpers.tiny_training import tiny_model, tiny_models

NAMES = ["red", "rare"]
TASK = TASKS["multilabel"]

tiny = tiny_models(tiny_model, classification, image_model)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs that differ in the seed alone."""
    root = tmp_path_factory.mktemp("ensembles")
    manifest = draw_labeled_images(root / "listed")
    common = ("--task", "multilabel", "--dataset", f"manifest:{manifest}", "--split", "grouped")
    with pytest.MonkeyPatch.context() as patch:
        for seed, name in enumerate(("first", "second")):
            words = ("--data-dir", root / "data", "--run-dir", root / name, "--seed", seed)
            train(patch, *common, *words, "--epochs", "1", "--batch-size", "16")
    return root


def probabilities_of(root, names, tta, images):
    return load_ensemble(TASK, [root / name for name in names], tta).probabilities(images)


def test_the_probabilities_are_the_mean_over_models_and_views(root) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    alone = [
        probabilities_of(root, [name], "none", x)
        for name in ("first", "second")
        for x in (images, mirrored)
    ]
    together = probabilities_of(root, ["first", "second"], "flip", images)
    np.testing.assert_allclose(together, np.mean(alone, axis=0), rtol=1e-6)


def test_an_ensemble_is_evaluated_and_compared_with_its_models(root, monkeypatch, capsys) -> None:
    before = (root / "first" / "test.json").read_bytes()
    words = ("--ensemble", root / "second", "--tta", "dihedral")
    assert run_lmf_jax(monkeypatch, "evaluate", root / "first", *words) == 0
    printed = capsys.readouterr().out
    assert "mean of 2 models and 8 views of each image: 16 predictions an image" in printed
    assert re.search(r"mAP of the models +\d\.\d{3}, \d\.\d{3}; mean \d\.\d{3}", printed)
    assert "ensemble less this mean" in printed and "macro AUROC" in printed
    assert (root / "first" / "test.json").read_bytes() == before


def test_one_view_of_one_model_gives_the_test_of_the_run(root) -> None:
    model = load_ensemble(TASK, [root / "first"], "none")
    found = TASK.summarize(model, TASK.inputs_of_run(model), "test")
    test = json.loads((root / "first" / "test.json").read_text())
    assert found["mean_average_precision"] == pytest.approx(test["mean_average_precision"])
    assert found["macro_f1"] == pytest.approx(test["macro_f1"])
    assert "members" not in found


def test_predict_decides_by_the_mean_probabilities_and_thresholds(
    root, monkeypatch, capsys, tmp_path
) -> None:
    words = (root / "listed" / "01.png", "--ensemble", root / "second", "--tta", "flip")
    output = tmp_path / "out.csv"
    assert run_lmf_jax(monkeypatch, "predict", root / "first", *words, "--output", output) == 0
    printed = capsys.readouterr().out
    assert "calibration: that of each run, before averaging" in printed
    assert "4 predictions an image" in printed
    with output.open(newline="") as file:
        row = next(csv.DictReader(file))
    image = decode_image(Path(row["path"]).read_bytes(), ImageSpec(32, 32))
    expected = probabilities_of(root, ["first", "second"], "flip", np.stack([image] * 4))[0]
    found = [float(row[f"p({name})"]) for name in NAMES]
    np.testing.assert_allclose(found, expected, atol=2e-5)
    texts = [(root / run / "thresholds.json").read_text() for run in ("first", "second")]
    thresholds = [json.loads(text)["thresholds"] for text in texts]
    means = [np.mean([of_run[name] for of_run in thresholds]) for name in NAMES]
    above = [name for name, p, low in zip(NAMES, expected, means, strict=True) if p >= low]
    assert row["labels"] == "|".join(above)


def test_explain_averages_the_maps_of_models_and_views(root, monkeypatch, tmp_path) -> None:
    words = ("--ensemble", root / "second", "--tta", "flip", "--output", tmp_path / "maps")
    images = root / "listed" / "01.png"
    assert run_lmf_jax(monkeypatch, "explain", root / "first", images, *words) == 0
    drawn = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert drawn and set(drawn) <= {"01-red.png", "01-rare.png"}
    with Image.open(tmp_path / "maps" / drawn[0]) as picture:
        assert picture.size == (32, 32)
    pixels = np.asarray(Image.open(images).convert("RGB"))[None]
    ensemble = load_ensemble(TASK, [root / "first", root / "second"], "flip")
    heat = ensemble.heat(pixels, np.zeros(1, np.int32))
    mirrored = ensemble.heat(np.ascontiguousarray(pixels[:, :, ::-1]), np.zeros(1, np.int32))
    np.testing.assert_allclose(heat, mirrored[:, :, ::-1], atol=1e-4)


def test_a_run_that_was_not_tested_is_evaluated_with_thresholds_of_one_half(
    root, tmp_path, monkeypatch, capsys
) -> None:
    run = Path(shutil.copytree(root / "first", tmp_path / "run"))
    for name in ("thresholds.json", "calibration.json"):
        (run / name).unlink()
    assert run_lmf_jax(monkeypatch, "evaluate", run, "--part", "validation") == 0
    assert "0.500" in capsys.readouterr().out
