"""MedMNIST files with several labels per image: what is read of them, and all that can be wrong."""

from pathlib import Path

import numpy as np
import pytest

from data.datasets.medmnist_multilabel.labels import EXPECTED_COUNTS, LABELS, read_labels
from data.prepared.prepare import open_dataset
from data.splits.dataset import load_dataset
from data.splits.multilabel import load_multilabel_dataset
from lmf_jax.errors import UserError
from tests.data.datasets.test_medmnist import all_images, header_of, npz, pixels_of, write

PARTS = ("train", "val", "test")


def arrays_of(num_labels=14, counts=(20, 8, 9), dtype=np.uint8):
    random = np.random.default_rng(2)
    arrays = {}
    for part, count in zip(PARTS, counts, strict=True):
        arrays[f"{part}_images"] = random.integers(0, 256, (count, 6, 4), np.uint8)
        arrays[f"{part}_labels"] = random.integers(0, 2, (count, num_labels)).astype(dtype)
    return arrays


def changed(**arrays) -> bytes:
    return npz(arrays_of() | arrays)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_chestmnist_is_a_dataset_with_its_labels_and_its_split(dtype, tmp_path: Path) -> None:
    arrays = arrays_of(dtype=dtype)
    path = write(tmp_path / "chestmnist_64.npz", npz(arrays))
    dataset = load_multilabel_dataset(f"medmnist:{path}", data_dir=tmp_path / "data")
    assert dataset.class_names == LABELS["chestmnist"]
    expected = np.concatenate([arrays[f"{part}_labels"] for part in PARTS])
    np.testing.assert_array_equal(dataset.labels, expected)
    assert [len(rows) for rows in dataset.rows.values()] == [20, 8, 9]
    assert dataset.ids[28] == "test-0000000"
    np.testing.assert_array_equal(pixels_of(dataset.source[20]), arrays["val_images"][0])


def test_another_name_has_numbers_for_labels(tmp_path: Path) -> None:
    arrays = arrays_of(num_labels=3)
    arrays["train_labels"] = np.asfortranarray(arrays["train_labels"])
    labels = read_labels(write(tmp_path / "own.npz", npz(arrays)))
    assert labels.label_names == ("0", "1", "2")
    np.testing.assert_array_equal(labels.label_vectors[:20], arrays["train_labels"])


def test_chestmnist_has_its_official_counts() -> None:
    assert LABELS.keys() == EXPECTED_COUNTS.keys()
    assert sum(EXPECTED_COUNTS["chestmnist"].values()) == 112120


WRONG = {
    "no zip": (b"PK no zip", "damaged or not an npz file"),
    "one class": (all_images(np.zeros((3, 5, 4), np.uint8)), r"one class in train_labels, of \(3,"),
    "a single column": (changed(val_labels=np.zeros((8, 1), np.uint8)), "use --task class"),
    "no column": (changed(val_labels=np.zeros((8, 0), np.uint8)), "at most 1000 labels of an"),
    "too many labels": (
        changed(val_labels=np.zeros((8, 1001), np.uint8)),
        r"val_labels of \(8, 1001\); expected at most 1000 labels of an image",
    ),
    "other numbers of labels": (
        changed(val_labels=np.zeros((8, 13), np.uint8)),
        r"different numbers of labels \(14 in train, 13 in validation, 14 in test\)",
    ),
    "labels of another flag": (npz(arrays_of(num_labels=5)), "has 5 labels; expected the 14 of"),
    "a two": (changed(test_labels=np.full((9, 14), 2)), "the value 2 in test_labels; expected 1"),
    "a negative label": (changed(test_labels=np.full((9, 14), -1)), "the value -1 in test_labels"),
    "floats": (changed(val_labels=np.zeros((8, 14))), "val_labels as float64"),
    "truth values": (changed(val_labels=np.zeros((8, 14), bool)), "val_labels as bool"),
    "too few rows": (changed(val_labels=np.zeros((7, 14), np.uint8)), r"of \(8, labels\), a row"),
    "three axes": (changed(val_labels=np.zeros((8, 14, 2), np.uint8)), r"uint8 of \(8, 14, 2\)"),
    "a bomb": (changed(val_labels=header_of("(8, 10000000000)") + b"1" * 48), "header of val_lab"),
    "volumes": (changed(val_images=np.zeros((8, 6, 4, 5), np.uint8)), "holds volumes"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), WRONG.values(), ids=list(WRONG))
def test_a_wrong_file_is_one_clear_error(content, message, tmp_path: Path) -> None:
    path = write(tmp_path / "chestmnist.npz", content)
    with pytest.raises(UserError, match=message) as error:
        read_labels(path)
    assert str(error.value).startswith(str(path)) and str(error.value).isprintable()


def test_a_file_of_another_task_names_the_task(tmp_path: Path) -> None:
    path = write(tmp_path / "chestmnist.npz", npz(arrays_of()))
    with pytest.raises(UserError, match=r"14 labels in train_labels; .*use --task multilabel"):
        load_dataset(f"medmnist:{path}", data_dir=tmp_path / "data")
    with pytest.raises(UserError, match="may have several labels; give --task multilabel"):
        load_dataset(f"medmnist_multilabel:{path}", data_dir=tmp_path / "data")


def test_a_label_that_no_image_has_is_named(tmp_path: Path) -> None:
    arrays = arrays_of()
    arrays["train_labels"][:, 13] = 0
    path = write(tmp_path / "chestmnist.npz", npz(arrays))
    open_dataset(f"medmnist_multilabel:{path}", tmp_path / "data")
    with pytest.raises(UserError, match="No training image has the label hernia"):
        load_multilabel_dataset(f"medmnist:{path}", data_dir=tmp_path / "data")
