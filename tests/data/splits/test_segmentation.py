"""Datasets with masks: opened, recorded, cached, counted; and streamed to the end."""

import os
import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from data import (
    SegmentationDataset,
    evaluation_batches,
    load_segmentation_dataset,
    open_images,
    open_masks,
    pixel_counts,
    train_batches,
)
from data.batches.image_cache import CachedImages
from data.formats.images import decode_image
from data.formats.masks import decode_mask
from data.inputs.segmentation import open_segmentation
from lmf_jax.cli.tasks import TASKS
from lmf_jax.config import Config, ImageSpec
from lmf_jax.errors import UserError
from tests.helpers.image_pairs import classes_of, draw_mask, draw_pairs

CLASSES, COUNT, SIDE = 3, 40, 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def dataset(folder: Path) -> SegmentationDataset:
    name = draw_pairs(folder, COUNT, num_classes=CLASSES)
    return load_segmentation_dataset(name, data_dir=folder / "data")


def expected_masks() -> np.ndarray:
    """Masks of 12x9 pixels squeezed to 12x12, each pixel from the row at its center."""
    rows = np.floor((np.arange(SIDE) + 0.5) * 9 / 12).astype(int)
    return np.stack([classes_of(number, CLASSES)[rows] for number in range(COUNT)])


@pytest.mark.parametrize("cache", ["disk", "none"])
def test_masks_are_class_ids_in_row_order(cache, dataset: SegmentationDataset, folder) -> None:
    masks = open_masks(dataset, ImageSpec(SIDE, SIDE), cache=cache, data_dir=folder / "data")
    assert masks.shape == (COUNT, SIDE, SIDE)
    rows = np.array([7, 0, 39, 7])
    found = masks[rows]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected_masks()[rows])


def test_images_and_masks_have_caches_of_their_own(dataset: SegmentationDataset, folder) -> None:
    images = open_images(dataset, ImageSpec(SIDE, SIDE), data_dir=folder / "data")
    masks = open_masks(dataset, ImageSpec(SIDE, SIDE), data_dir=folder / "data")
    assert images.path != masks.path
    assert images.shape == (COUNT, SIDE, SIDE, 3)
    again = open_masks(
        replace(dataset, masks=[b""] * COUNT), ImageSpec(SIDE, SIDE), data_dir=folder / "data"
    )
    np.testing.assert_array_equal(again[np.arange(COUNT)], expected_masks())
    with pytest.raises(ValueError, match="at least 1 pixel, got 0"):
        open_masks(dataset, ImageSpec(0, 0), data_dir=folder / "data")


@pytest.fixture
def opened(dataset: SegmentationDataset, tmp_path: Path) -> CachedImages:
    return open_masks(dataset, ImageSpec(SIDE, SIDE), data_dir=tmp_path)


def test_a_cache_of_masks_that_is_damaged_is_named(opened: CachedImages) -> None:
    content = bytearray(opened.path.read_bytes())
    content[opened.start + 4 * SIDE**2 + 20] ^= 1
    opened.path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"^Mask 04.png cannot be read .* \(its pixels have changed"
    ):
        opened[np.array([4])]
    os.truncate(opened.path, opened.start + 5 * SIDE**2 + 10)
    message = (
        rf"^Mask 05.png .* cache {opened.path} \(the file has 10 of its 144 bytes.*remove that file"
    )
    with pytest.raises(UserError, match=message):
        opened[np.array([5])]


def test_a_mask_that_cannot_be_decoded_is_named_and_leaves_no_cache(dataset, tmp_path) -> None:
    draw_mask(tmp_path / "mask.png", 0, num_classes=4)
    four = [(tmp_path / "mask.png").read_bytes()] * COUNT
    broken = replace(dataset, masks=four)
    message = r"^Mask 00.png of pairs:.* \(its values are 0, 1, 2, 3; expected 0 to 2\); replace"
    with pytest.raises(UserError, match=message):
        open_masks(broken, ImageSpec(SIDE, SIDE), data_dir=tmp_path)
    assert not list(tmp_path.rglob("*.npy"))
    with pytest.raises(UserError, match=message):
        open_masks(broken, ImageSpec(SIDE, SIDE), cache="none")[np.array([0])]


@pytest.mark.parametrize("cache", ["disk", "none", "memory"])
def test_pixels_are_counted(cache: str, dataset: SegmentationDataset, folder: Path) -> None:
    masks = expected_masks()
    if cache != "memory":
        masks = open_masks(dataset, ImageSpec(SIDE, SIDE), cache=cache, data_dir=folder / "data")
    rows = np.arange(1, 38)  # more than a block, and not whole ones
    counts = pixel_counts(masks, rows, CLASSES + 1)
    assert counts.dtype == np.int64
    expected = np.bincount(expected_masks()[rows].ravel(), minlength=CLASSES + 1)
    np.testing.assert_array_equal(counts, expected)
    assert counts[CLASSES] == 0
    with pytest.raises(ValueError, match="Masks hold 2; expected 0 to 1"):
        pixel_counts(masks, rows, 2)


def test_no_rows_have_no_pixels() -> None:
    assert pixel_counts(expected_masks(), np.zeros(0, np.int64), 3).tolist() == [0, 0, 0]


def test_what_a_run_records(dataset: SegmentationDataset) -> None:
    assert dataset.description == {
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "split_version": 1,
        "split_notes": [],
        "class_names": ["background", "class-1", "class-2"],
    }


def test_the_data_of_a_run_are_found_again_or_refused(dataset, folder: Path, tmp_path) -> None:
    config = Config.of(
        task="segmentation",
        dataset=dataset.name,
        data_dir=str(folder / "data"),
        split="paper",
        image_size=32,
    ).resolve({})

    def inputs_of_run(config, data_dir=None):
        model = SimpleNamespace(config=config, dataset={"fingerprint": dataset.fingerprint})
        return TASKS["segmentation"].inputs_of_run(model, data_dir)

    assert inputs_of_run(config).dataset.fingerprint == dataset.fingerprint
    elsewhere = inputs_of_run(config, tmp_path).dataset
    np.testing.assert_array_equal(elsewhere.rows["test"], dataset.rows["test"])
    other = config.replace(split_seed=1)
    with pytest.raises(
        UserError, match=r"split of pairs:.* are not those that the run was trained"
    ):
        inputs_of_run(other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "grouped"}, "--split grouped is not possible: the dataset names no patients"),
        ({"split": "official"}, "the dataset does not come with a split; choose paper"),
        ({"split_seed": -1}, "--split-seed must be a whole number from 0, got -1"),
    ],
)
def test_a_split_that_is_not_possible_is_said(dataset, folder, options, message) -> None:
    with pytest.raises(UserError, match=message):
        load_segmentation_dataset(dataset.name, data_dir=folder / "data", **options)


def test_three_images_are_too_few(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No image is in the validation part by --split paper"):
        load_segmentation_dataset(draw_pairs(tmp_path, 3), data_dir=tmp_path / "data")


def test_batches_hold_the_mask_of_each_image_however_they_are_read(dataset, folder) -> None:
    seen = []
    for cache in ("disk", "none"):
        images = open_images(dataset, ImageSpec(SIDE, SIDE), cache=cache, data_dir=folder / "data")
        masks = open_masks(dataset, ImageSpec(SIDE, SIDE), cache=cache, data_dir=folder / "data")
        rows = dataset.rows["train"]
        training = train_batches(images, masks, rows, batch_size=8, seed=0, num_classes=CLASSES)
        evaluation = evaluation_batches(images, masks, rows, batch_size=8, num_classes=CLASSES)
        seen.append([next(training) for _ in range(9)] + list(evaluation))
    pixels = images[np.arange(COUNT)]
    for cached, streamed in zip(*seen, strict=True):
        for name in cached:
            np.testing.assert_array_equal(cached[name], streamed[name])
        valid = cached.get("mask", np.ones(8, bool))
        for image, label in zip(cached["image"][valid], cached["label"][valid], strict=True):
            (number,) = np.flatnonzero((pixels == image).all((1, 2, 3)))
            np.testing.assert_array_equal(label, expected_masks()[number])


def test_masks_can_be_sent_to_processes_that_read(dataset: SegmentationDataset) -> None:
    masks = pickle.loads(pickle.dumps(open_masks(dataset, ImageSpec(SIDE, SIDE), cache="none")))
    np.testing.assert_array_equal(masks[np.arange(3)], expected_masks()[:3])


def test_threads_read_what_is_partly_cached(dataset, folder: Path, monkeypatch) -> None:
    images = open_images(dataset, ImageSpec(SIDE, SIDE), data_dir=folder / "data")
    masks = open_masks(dataset, ImageSpec(SIDE, SIDE), cache="none")
    rows = dataset.rows["train"]
    threads = train_batches(images, masks, rows, batch_size=8, seed=0)
    monkeypatch.setattr("data.batches.pipeline.NUM_PROCESSES", 1)
    on_many_cores = train_batches(images, masks, rows, batch_size=8, seed=0)
    for _ in range(3):
        np.testing.assert_array_equal(next(on_many_cores)["label"], next(threads)["label"])


def test_real_masks_lie_over_their_lesions(real_data) -> None:
    """A lesion is darker than the skin around it, and less so wherever its mask is moved."""
    raw = real_data("isic2018_task1")
    contrasts = {shift: [] for shift in (-2, 0, 2)}
    for path in sorted((raw / "images" / "test").glob("*.jpg"))[:40]:
        gray = decode_image(path.read_bytes(), ImageSpec(64, 64)).mean(-1)
        mask = raw / "masks" / f"{path.stem}_segmentation.png"
        for shift, found in contrasts.items():
            lesion = np.roll(
                decode_mask(mask.read_bytes(), ImageSpec(64, 64), 2) == 1, shift, axis=(0, 1)
            )
            found.append(gray[~lesion].mean() - gray[lesion].mean())
    left, middle, right = map(np.mean, contrasts.values())
    assert middle > 60
    assert middle > max(left, right) + 2


def test_the_pixels_of_a_run_are_counted_once(dataset, tmp_path, monkeypatch) -> None:
    counted = []

    def count(*arguments):
        counted.append(arguments)
        return pixel_counts(*arguments)

    monkeypatch.setattr("data.inputs.segmentation.pixel_counts", count)
    config = Config.of(task="segmentation", image_size=32, data_dir=str(tmp_path)).resolve({})
    inputs = open_segmentation(dataset, config)
    assert inputs.description["class_counts"] == inputs.description["class_counts"]
    assert inputs.description["num_cases"]["test"] == len(dataset.rows["test"])
    assert len(counted) == 3  # one for each part
