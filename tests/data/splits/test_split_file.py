"""A split is made once, can be read by anybody, and cannot be changed unseen."""

import json
from pathlib import Path

import numpy as np
import pytest

from data import Dataset, load_dataset
from lmf_jax.errors import UserError


@pytest.fixture
def split_file(tmp_path: Path) -> Path:
    load_dataset("digits_lt", data_dir=tmp_path)
    (path,) = (tmp_path / "digits_lt" / "1.0.0" / "splits").glob("*.json")
    return path


def test_the_file_names_every_image_of_every_part(split_file: Path, tmp_path: Path) -> None:
    digits = load_dataset("digits_lt", data_dir=tmp_path)
    content = json.loads(split_file.read_text())
    assert split_file.name == "paper-seed0-ratio20.0.json"
    assert content["fingerprint"] == digits.fingerprint
    for part, rows in digits.rows.items():
        assert content[part] == digits.ids[rows].tolist()


def test_a_split_is_made_only_once(split_file: Path, tmp_path: Path, monkeypatch, digits) -> None:
    def make_split(*_):
        raise AssertionError("the split was made again")

    monkeypatch.setattr("data.splits.opened_split.make_split", make_split)
    again = load_dataset("digits_lt", data_dir=tmp_path)
    assert again.fingerprint == digits.fingerprint
    for part, rows in digits.rows.items():
        np.testing.assert_array_equal(again.rows[part], rows)


def test_seeds_and_ratios_have_files_of_their_own(split_file: Path, tmp_path: Path) -> None:
    load_dataset("digits_lt", data_dir=tmp_path, split_seed=3, imbalance_ratio=2.5)
    names = {path.name for path in split_file.parent.glob("*.json")}
    assert names == {"paper-seed0-ratio20.0.json", "paper-seed3-ratio2.5.json"}


def test_where_nothing_can_be_written_the_split_is_the_same(tmp_path, monkeypatch, digits) -> None:
    load_dataset("digits_lt", data_dir=tmp_path, split_seed=5)

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("data.storage.Path.mkdir", refuse)
    monkeypatch.setattr("data.splits.split_file.replacing", refuse)
    again = load_dataset("digits_lt", data_dir=tmp_path)
    assert again.fingerprint == digits.fingerprint


def moved(content: dict) -> dict:
    content["train"].append(content["test"].pop())
    return content


CHANGES = {
    "an image moved": lambda text: json.dumps(moved(json.loads(text))),
    "an image of another dataset": lambda text: text.replace("digit-0", "digit-9"),
    "a part missing": lambda text: text.replace('"validation"', '"val"'),
    "another fingerprint": lambda text: text.replace('"fingerprint": "', '"fingerprint": "0'),
    "half a file": lambda text: text[: len(text) // 2],
    "no file at all": lambda text: "",
    "a list": lambda text: "[1, 2]",
    "a number for a part": lambda text: json.dumps(json.loads(text) | {"test": 3}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES.keys()))
def test_a_changed_file_is_refused_by_name(change, split_file: Path, tmp_path: Path) -> None:
    split_file.write_text(change(split_file.read_text()))
    with pytest.raises(
        UserError, match=r"seed0-ratio20\.0\.json does not have .*manifest:FILE"
    ) as error:
        load_dataset("digits_lt", data_dir=tmp_path)
    assert "\n" not in str(error.value)


def test_the_official_split_has_no_seed(tmp_path: Path, digits: Dataset) -> None:
    archive = Path(__file__).parents[3] / "data/datasets/medmnist/dummy_data/dermamnist_28.npz"
    name = f"medmnist:{archive}"
    first, second = (load_dataset(name, data_dir=tmp_path, split_seed=seed) for seed in (0, 1))
    assert first.fingerprint == second.fingerprint
    assert first.defaults["split"] == "official"
    assert [len(first.rows[part]) for part in digits.rows] == [14, 7, 7]


@pytest.mark.parametrize("content", ["[" * 100_000, "9" * 5000, '"\\ud800"', "3", "null"])
def test_a_split_that_is_no_split_is_refused(content: str, split_file: Path, tmp_path) -> None:
    split_file.write_text(content)
    with pytest.raises(UserError, match="does not have the fingerprint recorded in it"):
        load_dataset("digits_lt", data_dir=tmp_path)
