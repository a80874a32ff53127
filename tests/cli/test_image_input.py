"""``train.py`` and every command on its runs, with images that are not squares, by tiny models."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from lmf_jax.inference import image_model, segmenter
from lmf_jax.runs.folder import read_config
from lmf_jax.training import classification, segmentation
from tests.helpers.colored_images import draw_images
from tests.helpers.tiny_commands import run_lmf_jax, run_train
from tests.helpers.tiny_training import tiny_model, tiny_models, tiny_unet

COUNTS = (20, 14, 10)

tiny_classifiers = tiny_models(tiny_model, classification, image_model)
tiny_segmenters = tiny_models(tiny_unet, segmentation, segmenter)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return a folder of images of 16x12 pixels, in a folder per color."""
    root = tmp_path_factory.mktemp("image-input")
    draw_images(root / "images", COUNTS)
    return root


def train(root, run, *words):
    """Run ``train.py`` on the images; return its exit code."""
    common = ("--dataset", f"folder:{root / 'images'}", "--data-dir", root / "data")
    quick = ("--pretrained", "none", "--normalization", "unit", "--epochs", 1, "--batch-size", 8)
    with pytest.MonkeyPatch.context() as patch:
        return run_train(patch, *common, *quick, "--run-dir", root / run, *words)


def call(*words):
    """Run ``python -m lmf_jax`` with these words; return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        return run_lmf_jax(patch, *words)


def read_json(path):
    return json.loads(path.read_text())


def size_of(path):
    """Return width and height of a picture."""
    with Image.open(path) as picture:
        return picture.size


@pytest.fixture(scope="module")
def wide(root):
    """Return a run on images of 32x48 pixels."""
    assert train(root, "wide", "--image-size", "32,48") == 0
    return root / "wide"


def test_a_classifier_is_trained_and_used_at_height_and_width(root, wide, tmp_path):
    assert read_json(wide / "config.json")["config"]["image_size"] == [32, 48]
    assert read_config(wide).data.image_spec.size == (32, 48)
    (cache,) = (root / "data" / "images").glob("*.npy")
    assert "-32x48px-" in cache.name
    tested = read_json(wide / "test.json")
    assert call("evaluate", wide) == 0
    assert read_json(wide / "test.json") == tested

    output, folder = tmp_path / "red.csv", root / "images" / "red"
    assert call("predict", wide, folder, "--tta", "dihedral", "--output", output) == 0
    with output.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == COUNTS[0]
    assert call("explain", wide, folder / "3.png", "--output", tmp_path / "heat") == 0
    (picture,) = (tmp_path / "heat").iterdir()
    assert size_of(picture) == (16, 12)
    assert call("card", wide) == 0
    assert "32 x 48" in (wide / "card" / "model_card.md").read_text()


def test_runs_of_other_sizes_are_not_averaged(root, wide, capsys):
    assert train(root, "tall", "--image-size", "48,32") == 0
    assert call("evaluate", wide, "--ensemble", root / "tall") == 2
    assert "The image size of the run" in (error := capsys.readouterr().err)
    assert "(32,48)" in error and "(48,32)" in error


def test_masks_are_segmented_at_height_and_width(root, tmp_path):
    run = tmp_path / "masks"
    words = ["--task", "segmentation", "--data-dir", root / "data", "--run-dir", run]
    words += ["--image-size", "32,48", "--epochs", 1, "--batch-size", 16]
    with pytest.MonkeyPatch.context() as patch:
        assert run_train(patch, *words) == 0
    tested = read_json(run / "test.json")
    assert call("evaluate", run) == 0
    assert read_json(run / "test.json") == tested
    image = np.random.default_rng(0).integers(0, 256, (40, 25, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "one.png")
    assert call("predict", run, tmp_path / "one.png", "--output", tmp_path / "out") == 0
    assert size_of(tmp_path / "out" / "one.png") == (25, 40)
    with np.load(run / "overlays.npz") as overlays:
        assert overlays["images"].shape[1:] == (32, 48, 3)
        assert overlays["predictions"].shape[1:] == (32, 48)
