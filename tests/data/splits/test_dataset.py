"""digits_lt from its name to its split, and what a person can get wrong."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from data import Dataset, load_dataset
from data.datasets.digits_lt.digits_lt_dataset_builder import Builder
from data.prepared.prepare import open_dataset
from lmf_jax.errors import UserError

REPOSITORY = Path(__file__).parents[3]

USE_EVERYTHING = """
import json, sys
import data
from lmf_jax.config import ImageSpec
imported_early = "tensorflow_datasets" in sys.modules
digits = data.load_dataset("digits_lt", data_dir=sys.argv[1])
images = data.cached_images(digits, ImageSpec(16, 16), sys.argv[1])
batch = next(data.train_batches(images, digits.labels, digits.rows["train"], batch_size=4, seed=0))
print(json.dumps({
    "fingerprint": digits.fingerprint,
    "pixels": int(images[digits.rows["test"]].sum(dtype="int64")),
    "shape": batch["image"].shape,
    "imported_early": imported_early,
    "never": [name for name in ("tensorflow", "flax", "optax") if name in sys.modules],
}))
"""


def start_process(data_dir: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", USE_EVERYTHING, str(data_dir)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result_of(process: subprocess.Popen) -> dict:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert errors == ""
    return json.loads(output)


def test_digits_keep_their_pixels_labels_and_names(digits: Dataset) -> None:
    source = load_digits()
    np.testing.assert_array_equal(digits.labels, source.target)
    assert digits.labels.dtype == np.int32
    assert digits.class_names == tuple("0123456789")
    assert digits.ids[[0, 1796]].tolist() == ["digit-0001", "digit-1797"]
    assert digits.groups is None
    assert len(digits.source) == 1797
    for row in (0, 5, 1796):
        gray = np.asarray(Image.open(io.BytesIO(digits.source[row])))
        np.testing.assert_array_equal(np.rint(gray / 255 * 16), source.images[row])


def test_digits_have_a_long_tail_and_a_whole_test_part(digits: Dataset) -> None:
    assert digits.class_counts("train").tolist() == [124, 92, 66, 48, 34, 24, 18, 13, 9, 6]
    assert digits.class_counts("validation").tolist() == [27, 19, 14, 10, 7, 5, 4, 3, 2, 1]
    assert digits.class_counts("test").tolist() == [27, 27, 27, 27, 27, 27, 27, 27, 26, 27]
    assert digits.class_counts("test").dtype == np.int64
    assert digits.defaults["image_size"] == 32
    assert digits.defaults["imbalance_ratio"] == 20.0


def test_the_imbalance_ratio_leaves_the_test_part_alone(digits: Dataset, data_dir: Path) -> None:
    balanced = load_dataset("digits_lt", data_dir=data_dir, imbalance_ratio=1.0)
    np.testing.assert_array_equal(balanced.rows["test"], digits.rows["test"])
    assert set(digits.rows["train"]) < set(balanced.rows["train"])
    assert sum(len(rows) for rows in balanced.rows.values()) == 1797


def test_the_fingerprint_is_the_same_on_every_machine(digits: Dataset) -> None:
    assert digits.content_fingerprint.startswith("d103689156f96261")
    assert digits.fingerprint.startswith("4aca0cc8197f6469")


def test_the_fingerprint_covers_the_split(digits: Dataset, data_dir: Path) -> None:
    again = load_dataset("digits_lt", data_dir=str(data_dir))
    reseeded = load_dataset("digits_lt", data_dir=data_dir, split_seed=1)
    steeper = load_dataset("digits_lt", data_dir=data_dir, imbalance_ratio=21.0)
    assert again.fingerprint == digits.fingerprint
    assert len({digits.fingerprint, reseeded.fingerprint, steeper.fingerprint}) == 3
    assert digits.content_fingerprint == reseeded.content_fingerprint


def test_two_processes_may_prepare_at_once_and_never_need_tensorflow(tmp_path: Path) -> None:
    first, second = map(result_of, [start_process(tmp_path), start_process(tmp_path)])
    assert first == second
    assert first["shape"] == [4, 16, 16, 3]
    assert first["never"] == []
    assert not first["imported_early"]
    assert len(list((tmp_path / "images").glob("*.npy"))) == 1
    leftovers = [path for path in tmp_path.rglob("*") if "incomplete" in path.name]
    assert leftovers == []


def test_preparing_survives_another_process_that_was_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Builder(data_dir=tmp_path, file_format="array_record")
    generate = Builder._split_generators

    def generate_late(self, dl_manager):
        if self is not other:
            other.download_and_prepare()
        return generate(self, dl_manager)

    monkeypatch.setattr(Builder, "_split_generators", generate_late)
    assert len(open_dataset("digits_lt", tmp_path).ids) == 1797


def test_preparing_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_dataset("digits_lt", data_dir=tmp_path)
    assert capfd.readouterr() == ("", "")


def test_the_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    load_dataset("digits_lt", data_dir="~/prepared")
    assert (tmp_path / "prepared" / "digits_lt").is_dir()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"name": "digits"},
            "no dataset named 'digits'; choose one of digits_lt, digits_masks, digits_multilabel",
        ),
        (
            {"split": "grouped"},
            "--split grouped is not possible: the dataset names no patients or lesions; choose",
        ),
        (
            {"split": "random"},
            "--split random is not possible: there is no such split; choose paper",
        ),
        ({"split_seed": -1}, "--split-seed must be a whole number from 0, got -1"),
        ({"imbalance_ratio": 0.5}, "--imbalance-ratio must be a number from 1, got 0.5"),
        ({"imbalance_ratio": float("nan")}, "--imbalance-ratio must be a number from 1, got nan"),
    ],
)
def test_what_a_person_got_wrong_is_said_in_one_sentence(
    data_dir: Path, options: dict, message: str
) -> None:
    arguments = {"name": "digits_lt", "data_dir": data_dir, **options}
    with pytest.raises(UserError, match=message) as caught:
        load_dataset(arguments.pop("name"), **arguments)
    assert "\n" not in str(caught.value)


def test_an_imbalance_ratio_needs_a_dataset_that_has_one(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.splits.dataset.default_settings", lambda name: {"image_size": 32})
    assert len(load_dataset("digits_lt", data_dir=data_dir).rows["train"]) == 1259
    with pytest.raises(UserError, match="digits_lt has no default imbalance ratio"):
        load_dataset("digits_lt", data_dir=data_dir, imbalance_ratio=20.0)


def test_a_data_dir_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/data.* cannot be written .*--data-dir"):
        load_dataset("digits_lt", data_dir=tmp_path / "file" / "data")
