"""Pairs of images as examples: which images belong together, and their labels and arrays."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.batches.image_cache import open_images
from data.splits.multilabel import load_multilabel_dataset
from lmf_jax.config import ImageSpec
from lmf_jax.errors import UserError

COLUMNS = ("path", "label", "group", "eye", "age")
GRAY = {"left": 40, "right": 200}
PATIENTS = 24


def make_manifest(folder: Path, change=lambda rows: rows) -> str:
    """Write a manifest of patients with two eyes, every sixth with the right eye alone."""
    rows = []
    for patient in range(PATIENTS):
        for eye in ("left", "right")[patient % 6 == 0 :]:
            names = [name for n, name in enumerate("ABC") if (patient >> n) % 2]
            label = "|".join(names if eye == "right" else names[:1])
            path = f"{patient}_{eye}.png"
            Image.new("RGB", (8, 8), (patient, GRAY[eye], 0)).save(folder / path)
            rows.append([path, label, f"patient {patient:02}", eye, str(40 + patient)])
    with (folder / "images.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *change(rows)])
    return f"manifest:{folder / 'images.csv'}"


def load(folder: Path, change=lambda rows: rows, pair_by: str = "eye", split: str = "paper"):
    name = make_manifest(folder, change)
    return load_multilabel_dataset(
        name, data_dir=folder / "data", pair_by=pair_by, split=split, split_seed=0
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory):
    return load(tmp_path_factory.mktemp("pairs"))


def test_an_example_is_a_patient_with_the_labels_of_both_eyes(dataset) -> None:
    assert dataset.ids.tolist() == [f"patient {n:02}" for n in range(PATIENTS)]
    expected = [[(patient >> n) % 2 for n in range(3)] for patient in range(PATIENTS)]
    np.testing.assert_array_equal(dataset.labels, expected)
    assert sorted(np.concatenate(list(dataset.rows.values()))) == list(range(PATIENTS))


def test_metadata_of_the_patient_are_kept_and_those_of_the_image_are_not(dataset) -> None:
    assert dataset.metadata["age"].tolist() == [str(40 + n) for n in range(PATIENTS)]
    assert "eye" not in dataset.metadata
    assert dataset.description["pair_sides"] == ["left", "right"]


@pytest.mark.parametrize("cache", ["none", "disk"])
def test_both_eyes_lie_side_by_side_and_an_absent_one_is_black(dataset, cache, tmp_path) -> None:
    images = open_images(dataset, ImageSpec(32, 48), cache=cache, data_dir=tmp_path)
    assert images.shape == (PATIENTS, 32, 96, 3)
    first, second = images[np.array([0, 1])]
    np.testing.assert_array_equal(first[:, :48], 0)
    assert np.unique(first[:, 48:].reshape(-1, 3), axis=0).tolist() == [[0, GRAY["right"], 0]]
    assert np.unique(second[:, :48].reshape(-1, 3), axis=0).tolist() == [[1, GRAY["left"], 0]]
    assert np.unique(second[:, 48:].reshape(-1, 3), axis=0).tolist() == [[1, GRAY["right"], 0]]


def test_pairs_and_images_are_different_data(dataset, tmp_path) -> None:
    name = make_manifest(tmp_path)
    images = load_multilabel_dataset(name, data_dir=tmp_path / "data", split="paper")
    pairs = load_multilabel_dataset(name, data_dir=tmp_path / "data", split="paper", pair_by="eye")
    assert pairs.fingerprint == dataset.fingerprint != images.fingerprint
    assert pairs.content_fingerprint != images.content_fingerprint


def test_a_missing_label_of_one_eye_is_missing_unless_the_other_has_it(tmp_path) -> None:
    header = ["path", "group", "eye", "label:A", "label:B"]
    cells = {"left": ["", "1"], "right": ["0", ""]}
    rows = []
    for patient in range(PATIENTS):
        for eye in GRAY:
            path = f"{patient}_{eye}.png"
            Image.new("RGB", (8, 8), (patient, GRAY[eye], 0)).save(tmp_path / path)
            values = cells[eye] if patient == 0 else [str(patient % 2)] * 2
            rows.append([path, f"p{patient}", eye, *values])
    with (tmp_path / "images.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    dataset = load_multilabel_dataset(
        f"manifest:{tmp_path / 'images.csv'}", data_dir=tmp_path / "data", pair_by="eye"
    )
    assert dataset.labels[0].tolist() == [-1, 1]


def without_group(rows):
    return [[*row[:2], "", *row[3:]] for row in rows]


def third_eye(rows):
    return [[*row[:3], "third" if n == 5 else row[3], row[4]] for n, row in enumerate(rows)]


def unknown_eye(rows):
    return [[*row[:3], "" if n == 5 else row[3], row[4]] for n, row in enumerate(rows)]


def one_eye(rows):
    return [[*row[:3], "left", row[4]] for row in rows]


def same_patient(rows):
    return [[*row[:2], "patient 01", *row[3:]] for row in rows]


@pytest.mark.parametrize(
    ("change", "pair_by", "message"),
    [
        (list, "side", "--pair-by side: .* has no such column of metadata; it has eye, age"),
        (third_eye, "eye", "the values 'left', 'right', 'third'; expected two values"),
        (unknown_eye, "eye", "the values '', 'left', 'right'; expected two values"),
        (one_eye, "eye", "the values 'left'; expected two values"),
        (without_group, "eye", "names no patients or lesions, so --pair-by eye has no pairs"),
        (same_patient, "eye", "patient 01 of .* has several images with eye"),
    ],
)
def test_images_that_are_no_pairs_are_refused(change, pair_by, message, tmp_path) -> None:
    with pytest.raises(UserError, match=message):
        load(tmp_path, change, pair_by)


def test_a_patient_in_two_official_parts_is_refused(tmp_path) -> None:
    parts = ["train", "test", "validation"]
    name = make_manifest(tmp_path)
    path = tmp_path / "images.csv"
    lines = path.read_text().splitlines()
    split = [f"{line},{parts[n % 3]}" for n, line in enumerate(lines[1:])]
    path.write_text("\n".join([f"{lines[0]},split", *split]) + "\n")
    with pytest.raises(UserError, match="images of patient 01 are in two parts of the official"):
        load_multilabel_dataset(name, data_dir=tmp_path / "data", pair_by="eye")
