"""Calibration, ensembles, views and external tests of segmentation runs, with a tiny U-Net."""

import json
import runpy
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from data.formats.metadata import write_metadata
from data.prepared.prepare import open_dataset
from lmf_jax.cli.members import load_ensemble
from lmf_jax.cli.tasks import TASKS
from lmf_jax.evaluation.calibration import read_calibration
from lmf_jax.evaluation.segmentation.external import read_external
from lmf_jax.evaluation.segmentation.run import read_run
from lmf_jax.inference import segmenter
from lmf_jax.inference.pixel_calibration import PIXELS_PER_CASE, sample_pixels
from lmf_jax.inference.segmenter import load_segmenter
from lmf_jax.training import segmentation
from tests.helpers.tiny_commands import TRAIN, run_lmf_jax
from tests.helpers.tiny_training import tiny_models, tiny_unet

pytestmark = pytest.mark.slow  # trains many models, by whole commands

COMMON = ("--task", "segmentation", "--image-size", "32", "--batch-size", "16", "--epochs", "1")


tiny = tiny_models(tiny_unet, segmentation, segmenter)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two runs on digits_masks that differ in the seed."""
    root = tmp_path_factory.mktemp("segment")
    with pytest.MonkeyPatch.context() as patch:
        for seed in ("0", "1"):
            words = (*COMMON, "--data-dir", root / "data", "--run-dir", root / seed, "--seed", seed)
            patch.setattr(sys, "argv", ["train.py", *map(str, words)])
            runpy.run_path(TRAIN, run_name="__main__")
    return root


@pytest.fixture(scope="module")
def elsewhere(root):
    """Twelve noisier images of digits_masks, as a dataset of the user."""
    prepared = open_dataset("digits_masks", root / "data")
    for folder in ("images", "masks"):
        (root / "other" / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for row in range(12):
        (root / "seen.png").write_bytes(prepared.source[row])
        pixels = np.asarray(Image.open(root / "seen.png").convert("RGB"), float)
        noisy = (pixels[::-1] + rng.normal(scale=60, size=pixels.shape)).clip(0, 255)
        Image.fromarray(noisy.astype(np.uint8)).save(root / f"other/images/{row}.png")
        (root / "mask.png").write_bytes(prepared.masks[row])
        mask = np.asarray(Image.open(root / "mask.png"))
        Image.fromarray(mask[::-1].astype(np.uint8)).save(root / f"other/masks/{row}.png")
    (root / "other/masks/classes.txt").write_text("\n".join(prepared.mask_classes))
    return f"pairs:{root / 'other' / 'images'},{root / 'other' / 'masks'}"


def test_the_probabilities_of_pixels_are_calibrated(root):
    names = read_run(root / "0").dataset["class_names"]
    found = read_calibration(root / "0", len(names))
    assert found["class_names"] == names
    assert found["validation"]["images"] == read_run(root / "0").dataset["num_cases"]["validation"]
    before, after = (found["metrics"][method] for method in ("none", "temperature"))
    assert after["validation_log_loss"] <= before["validation_log_loss"]
    assert load_segmenter(root / "0").calibrator.temperature == found["temperature"]


def test_a_sample_has_the_logits_and_labels_of_its_pixels(root):
    task, model = TASKS["segmentation"], load_segmenter(root / "0")
    cases = task.inputs_of_run(model).cases("validation")
    sample, again = sample_pixels(model, cases), sample_pixels(model, cases)
    assert len(sample.labels) == PIXELS_PER_CASE * len(cases.ids)
    np.testing.assert_array_equal(sample.logits, again.logits)
    image, labels = cases.read(3)
    logits = model.logits(np.stack([image] * 4))[0].reshape(labels.size, -1)
    pixels = np.random.default_rng([0, 3]).integers(labels.size, size=PIXELS_PER_CASE)
    of_case = slice(3 * PIXELS_PER_CASE, 4 * PIXELS_PER_CASE)
    np.testing.assert_array_equal(sample.labels[of_case], labels.reshape(-1)[pixels])
    np.testing.assert_allclose(sample.logits[of_case], logits[pixels], rtol=1e-4, atol=1e-4)


def test_an_ensemble_averages_calibrated_probabilities_in_the_orientation_of_the_image(root):
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    runs = [root / "0", root / "1"]
    task = TASKS["segmentation"]
    together = load_ensemble(task, runs, "flip").calibrated_probabilities(images)
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    alone = []
    for run in runs:
        model = load_segmenter(run)
        alone.append(model.calibrated_probabilities(images))
        alone.append(model.calibrated_probabilities(mirrored)[:, :, ::-1])
    np.testing.assert_allclose(together, np.mean(alone, axis=0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(together.sum(axis=-1), 1, rtol=1e-5)


def test_the_most_likely_class_of_one_model_does_not_change_by_calibration(root):
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    model = load_segmenter(root / "0")
    calibrated = load_ensemble(TASKS["segmentation"], [root / "0"], "none").segment(images)
    np.testing.assert_array_equal(calibrated, model.segment(images))


def test_ensembles_and_views_are_evaluated(root, monkeypatch, capsys):
    words = ("evaluate", root / "0", "--ensemble", root / "1", "--tta", "flip")
    assert run_lmf_jax(monkeypatch, *words) == 0
    printed = capsys.readouterr().out
    assert "foreground mean" in printed
    assert "mean of 2 models and 2 views of each image: 4 predictions an image" in printed


def test_a_run_is_tested_on_another_dataset(root, elsewhere, monkeypatch, capsys, tmp_path):
    run = shutil.copytree(root / "0", tmp_path / "run")
    own = (run / "test.json").read_bytes()
    assert run_lmf_jax(monkeypatch, "evaluate", run, "--dataset", elsewhere) == 0
    printed = capsys.readouterr().out
    assert "12 images; none has a lesion, patient or picture" in printed
    assert "change of DSC" in printed
    names = read_run(run).dataset["class_names"]
    (external,) = read_external(run, names)
    assert len(external.test["per_case"]) == 12
    dsc = external.record["transfer"]["dsc"]
    assert dsc["own"] == pytest.approx(json.loads(own)["dsc"])
    assert dsc["other"] == pytest.approx(external.test["dsc"])
    assert (run / "test.json").read_bytes() == own
    assert f"Test on {elsewhere}" in (run / "report.html").read_text()


def test_images_with_metadata_have_subgroups(root, elsewhere, monkeypatch, capsys, tmp_path):
    run, data_dir = (shutil.copytree(root / name, tmp_path / name) for name in ("0", "data"))
    words = ("evaluate", run, "--data-dir", data_dir)
    assert run_lmf_jax(monkeypatch, *words, "--subgroups", "site") == 2
    assert "the dataset has no metadata" in capsys.readouterr().err
    for name in ("digits_masks", elsewhere):
        prepared = open_dataset(name, data_dir)
        site = np.where(np.arange(len(prepared.ids)) % 3, "hand", "foot")
        write_metadata(prepared.folder, {"site": site})
    own = (run / "test.json").read_bytes()
    assert run_lmf_jax(monkeypatch, *words, "--subgroups", "site") == 0
    printed = capsys.readouterr().out
    assert "mean DSC minus that of all other known values;" in " ".join(printed.split())
    assert (run / "test.json").read_bytes() == own
    finished = read_run(run)
    subgroups = json.loads((run / "subgroups.json").read_text())["columns"]["site"]["subgroups"]
    rows = open_dataset("digits_masks", data_dir).ids.tolist()
    in_foot = [rows.index(name) % 3 == 0 for name in finished.ids.tolist()]
    dsc = np.array([case["dsc"] for case in finished.test["per_case"].values()])
    assert subgroups[0]["images"] == sum(in_foot)
    assert subgroups[0]["dsc"] == pytest.approx(dsc[in_foot].mean())
    assert "<h2>Subgroups</h2>" in (run / "report.html").read_text()

    assert run_lmf_jax(monkeypatch, *words, "--dataset", elsewhere, "--subgroups", "site") == 0
    printed = capsys.readouterr().out
    assert "\nfoot " in printed and "\nhand " in printed
    (external,) = read_external(run, finished.dataset["class_names"])
    counts = [row["images"] for row in external.subgroups["columns"]["site"]["subgroups"]]
    assert counts == [4, 8]
    page = (run / "report.html").read_text()
    section = page[page.index(f"<h2>Test on {elsewhere}</h2>") :]
    assert "<strong>Subgroups</strong>" in section


def test_masks_of_other_classes_are_refused(root, elsewhere, monkeypatch, capsys, tmp_path):
    other = shutil.copytree(root / "other", tmp_path / "other")
    (other / "masks" / "classes.txt").write_text("skin\nlesion\nhair")
    name = f"pairs:{other / 'images'},{other / 'masks'}"
    assert run_lmf_jax(monkeypatch, "evaluate", root / "0", "--dataset", name) == 2
    assert "have the classes skin, lesion, hair; expected" in capsys.readouterr().err
