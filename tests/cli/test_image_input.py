"""``train.py`` and every command on its runs, with other sizes, ways to resize and channels."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from lmf_jax.inference import image_model, segmenter
from lmf_jax.inference.segmenter import TrainedSegmenter
from lmf_jax.runs.folder import read_config
from lmf_jax.training import classification, segmentation
from tests.helpers.colored_images import draw_images
from tests.helpers.image_pairs import draw_pairs
from tests.helpers.tiny_commands import run_lmf_jax, run_train
from tests.helpers.tiny_training import tiny_model, tiny_models, tiny_unet

pytestmark = pytest.mark.slow  # trains many models, by whole commands

COUNTS = (20, 14, 10)

tiny_classifiers = tiny_models(tiny_model, classification, image_model)
tiny_segmenters = tiny_models(tiny_unet, segmentation, segmenter)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return a folder of images of 16x12 pixels, in a folder per color, and of pairs with masks."""
    root = tmp_path_factory.mktemp("image-input")
    draw_images(root / "images", COUNTS)
    draw_pairs(root / "pairs", 20)
    return root


def train(root, run, *words):
    """Run ``train.py`` on the images; return its exit code."""
    common = ("--dataset", f"folder:{root / 'images'}", "--data-dir", root / "data")
    quick = ("--pretrained", "none", "--normalization", "unit", "--epochs", 1, "--batch-size", 8)
    with pytest.MonkeyPatch.context() as patch:
        return run_train(patch, *common, *quick, "--run-dir", root / run, *words)


def train_segmenter(root, run, *words):
    """Run ``train.py`` on the pairs of images and masks; return its exit code."""
    pairs = f"pairs:{root / 'pairs' / 'images'},{root / 'pairs' / 'masks'}"
    common = ("--task", "segmentation", "--dataset", pairs, "--data-dir", root / "data")
    with pytest.MonkeyPatch.context() as patch:
        quick = ("--epochs", 1, "--batch-size", 8)
        return run_train(patch, *common, *quick, "--run-dir", run, *words)


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
    (_,) = (root / "data" / "images").glob("*-32x48px-v*.npy")
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


@pytest.fixture(scope="module")
def masks(root):
    """Return a segmentation run on images of 32x48 pixels, cut to their center."""
    run = root / "masks"
    assert train_segmenter(root, run, "--image-size", "32,48", "--resize", "crop") == 0
    return run


def test_masks_are_segmented_at_height_and_width(masks, tmp_path):
    run = masks
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


def test_images_keep_their_aspect_ratio_in_every_command(root, wide, tmp_path):
    assert train(root, "padded", "--image-size", "32,48", "--resize", "pad") == 0
    run, folder, data = root / "padded", root / "images" / "red", root / "data" / "images"
    fingerprint = next(data.glob("*-32x48px-pad-*")).name.split("-")[0]
    assert len(list(data.glob(f"{fingerprint}-32x48px*"))) == 2
    tested = read_json(run / "test.json")
    assert call("evaluate", run) == 0
    assert read_json(run / "test.json") == tested
    with np.load(run / "mistakes.npz") as mistakes:
        images = mistakes["images"]
    assert len(images) and not images[:, :, :2].any() and images[:, :, 3:-3].any((0, 1, 3)).all()
    before = set(data.iterdir())
    draw_images(tmp_path / "others", (3, 3, 3), seed=1)
    words = ("--dataset", f"folder:{tmp_path / 'others'}", "--data-dir", tmp_path / "data")
    assert call("evaluate", run, *words) == 0
    (external,) = (tmp_path / "data" / "images").glob("*.npy")
    assert "-pad-" in external.name and set(data.iterdir()) == before
    assert call("predict", run, folder, "--output", tmp_path / "red.csv") == 0
    assert call("explain", run, folder / "3.png", "--output", tmp_path / "heat") == 0
    (picture,) = (tmp_path / "heat").iterdir()
    assert size_of(picture) == (16, 12)
    assert call("card", run) == 0
    assert "aspect ratio: pad (" in (run / "card" / "model_card.md").read_text()


def test_predicted_masks_are_put_back_onto_the_image(masks, tmp_path, monkeypatch):
    """The rows of 40 that a picture of 25x40 pixels has in 48x32 pixels of its width."""
    everything = lambda self, images: np.ones(images.shape[:3], np.uint8)  # noqa: E731
    monkeypatch.setattr(TrainedSegmenter, "segment", everything)
    Image.new("RGB", (25, 40), "white").save(tmp_path / "one.png")
    for resize, rows in [("crop", range(12, 28)), ("pad", range(40)), ("stretch", range(40))]:
        run = shutil.copytree(masks, tmp_path / resize)
        record = read_json(run / "config.json")
        record["config"]["resize"] = resize
        (run / "config.json").write_text(json.dumps(record))
        assert call("predict", run, tmp_path / "one.png", "--output", tmp_path / "out") == 0
        with Image.open(tmp_path / "out" / "one.png") as picture:
            mask = np.asarray(picture)
        assert mask.shape == (40, 25)
        assert np.flatnonzero(mask.all(1)).tolist() == list(rows)
        assert np.flatnonzero(mask.any(1)).tolist() == list(rows)
        (tmp_path / "out" / "one.png").unlink()


def test_a_model_of_gray_images_is_trained_and_used(root, wide, tmp_path, capsys):
    words = ("--image-size", "32,48", "--channels", 1, "--augment", "flip", "--mixup", 0.2)
    assert train(root, "gray", *words) == 0
    run = root / "gray"
    tested = read_json(run / "test.json")
    assert call("evaluate", run) == 0
    assert read_json(run / "test.json") == tested
    with np.load(run / "mistakes.npz") as mistakes:  # pictures for the report
        images = mistakes["images"]
    assert images.shape[1:] == (32, 48, 3) and (images == images[..., :1]).all()

    folder = tmp_path / "images"
    folder.mkdir()
    gray = np.random.default_rng(0).integers(0, 256, (12, 16), np.uint8)
    Image.fromarray(gray).save(folder / "gray.png")
    Image.fromarray(np.repeat(gray[..., None], 3, -1)).save(folder / "rgb.png")
    assert call("predict", run, folder, "--output", tmp_path / "table.csv") == 0
    with (tmp_path / "table.csv").open(newline="") as file:
        first, second = ({**row, "path": ""} for row in csv.DictReader(file))
    assert first == second
    assert call("explain", run, folder, "--output", tmp_path / "heat") == 0
    assert {size_of(path) for path in (tmp_path / "heat").iterdir()} == {(16, 12)}
    assert call("card", run) == 0
    assert "Images are decoded to gray" in (run / "card" / "model_card.md").read_text()
    capsys.readouterr()
    assert call("predict", run, folder, "--ensemble", wide, "--output", tmp_path / "both.csv") == 2
    assert f"The channels of the run in {run} (1) is not" in capsys.readouterr().err


def test_a_segmenter_of_gray_images_is_trained_and_used(root, tmp_path):
    run = tmp_path / "run"
    assert train_segmenter(root, run, "--image-size", 32, "--channels", 1) == 0
    tested = read_json(run / "test.json")
    assert call("evaluate", run) == 0
    assert read_json(run / "test.json") == tested
    Image.new("L", (25, 40), 90).save(tmp_path / "one.png")
    assert call("predict", run, tmp_path / "one.png", "--output", tmp_path / "out") == 0
    assert size_of(tmp_path / "out" / "one.png") == (25, 40)
    with np.load(run / "overlays.npz") as overlays:
        assert overlays["images"].shape[1:] == (32, 32, 3)


def test_a_multilabel_model_of_padded_gray_images_is_trained_and_used(root, tmp_path):
    run = tmp_path / "run"
    words = ["--task", "multilabel", "--data-dir", root / "data", "--run-dir", run, "--epochs", 1]
    words += ["--image-size", "32,48", "--resize", "pad", "--channels", 1, "--batch-size", 32]
    with pytest.MonkeyPatch.context() as patch:
        assert run_train(patch, *words) == 0
    image = root / "images" / "red" / "3.png"
    assert call("predict", run, image, "--output", tmp_path / "table.csv") == 0
    assert call("explain", run, image, "--output", tmp_path / "heat") == 0


def test_a_run_of_an_earlier_version_is_resumed(root, wide, tmp_path):
    run = shutil.copytree(wide, tmp_path / "run")
    record = read_json(run / "config.json")
    del record["config"]["resize"], record["config"]["channels"]
    (run / "config.json").write_text(json.dumps(record))
    with pytest.MonkeyPatch.context() as patch:
        words = ("--resume", "--run-dir", run, "--data-dir", root / "data")
        assert run_train(patch, *words) == 0
    assert read_json(run / "test.json") == read_json(wide / "test.json")
