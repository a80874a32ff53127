"""``--where`` keeps the images with some metadata, and splits these alone."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.prepared.prepare import open_dataset
from data.splits.dataset import load_dataset
from data.splits.selection import select_rows
from lmf_jax.errors import UserError

METADATA = {
    "sex": np.array(["f", "m", "", "f", "m"]),
    "site": np.array(["torso, back", "face", "face", "back", "torso"]),
    "note": np.array([""] * 5),
}


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("sex=f", [0, 3]),
        ("sex=m,f", [0, 1, 3, 4]),
        (" sex = f ; site = back ;", [3]),
        ("site=torso, back", [0]),  # one value that contains a comma
        ("site=torso,back", [3, 4]),
    ],
)
def test_an_image_meets_all_conditions_with_one_of_the_values(where: str, rows: list[int]) -> None:
    assert select_rows(METADATA, where, "mine").tolist() == rows


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("age=3", "the column 'age'; expected one of sex, site, note"),
        ("sex=x", "gives sex the value 'x'; expected one or several of f, m"),
        ("sex=", "condition 'sex='; expected COLUMN=VALUE"),
        ("sex", "condition 'sex'; expected COLUMN=VALUE"),
        ("", "--where is empty"),
        (";", "--where is empty"),
        ("sex=f;sex=m", "the column sex twice"),
        ("note=a", "expected one or several of none, since it is unknown for all images"),
        ("sex=f;site=face", "No image of mine meets --where"),
    ],
)
def test_a_wrong_condition_is_one_clear_line(where: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        select_rows(METADATA, where, "mine")
    assert "\n" not in str(error.value)


@pytest.fixture
def name(tmp_path: Path) -> str:
    """A manifest of 60 images in two classes; the scanner is unknown for every sixth."""
    lines = ["path,label,group,scanner"]
    for number in range(60):
        pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        scanner = ("old", "new", "new", "old", "new", "")[number % 6]
        lines.append(f"{number}.png,{'ab'[number // 3 % 2]},p{number // 2},{scanner}")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    return f"manifest:{tmp_path}/list.csv"


@pytest.mark.parametrize("split", ["paper", "grouped"])
def test_the_selected_images_are_split_alone(name: str, split: str, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    whole = load_dataset(name, data_dir=data_dir, split=split)
    old = load_dataset(name, data_dir=data_dir, split=split, where="scanner=old")
    both = load_dataset(name, data_dir=data_dir, split=split, where="scanner=old,new")
    for dataset, number in ((whole, 60), (old, 20), (both, 50)):
        rows = np.concatenate(list(dataset.rows.values()))
        assert len(rows) == len(set(rows.tolist())) == number
    used = np.concatenate(list(old.rows.values()))
    assert set(old.metadata["scanner"][used].tolist()) == {"old"}
    assert old.metadata_of("test")["scanner"].tolist() == ["old"] * len(old.rows["test"])
    # The images are the same, so one cache serves all, and the split is another.
    assert old.content_fingerprint == whole.content_fingerprint
    assert len({dataset.fingerprint for dataset in (whole, old, both)}) == 3
    again = load_dataset(name, data_dir=data_dir, split=split, where="scanner=old")
    assert again.fingerprint == old.fingerprint


def test_a_class_without_training_images_is_named(tmp_path: Path) -> None:
    lines = ["path,label,scanner"]
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{'ab'[number // 20]},{'old' if number < 20 else 'new'}")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match="No image of the class b is trained on"):
        load_dataset(f"manifest:{tmp_path}/list.csv", data_dir=tmp_path / "d", where="scanner=old")


def test_a_part_alone_can_be_selected_for_an_evaluation(name: str, tmp_path: Path) -> None:
    dataset = load_dataset(name, data_dir=tmp_path / "data")
    selected = dataset.select("test", "scanner=old")
    expected = dataset.rows["test"][dataset.metadata_of("test")["scanner"] == "old"]
    assert selected.rows["test"].tolist() == expected.tolist()
    assert selected.rows["train"].tolist() == dataset.rows["train"].tolist()
    assert selected.fingerprint == dataset.fingerprint


@pytest.mark.parametrize("flags", [[], ["--labels-only"]])
def test_the_audit_counts_the_selected_images(name, flags, tmp_path, monkeypatch, capsys) -> None:
    open_dataset(name, tmp_path / "data")
    words = ["data", "audit", name, "--where", "scanner=old", "--data-dir", str(tmp_path / "data")]
    monkeypatch.setattr(sys, "argv", [*words, *flags])
    runpy.run_module("data", run_name="__main__")
    printed = capsys.readouterr().out.splitlines()
    totals = [line.split() for line in printed if line.startswith("all ")]
    assert totals
    for total in totals:
        assert sum(map(int, total[1:4])) == 20
    (folder,) = (tmp_path / "data" / "audits").iterdir()  # that of all images is another
    assert "-where-" in folder.name


def test_ham10000_is_selected_as_its_file_counts(real_data) -> None:
    from tests.data.test_labels import read

    labels = read("ham10000", real_data("ham10000"))
    where = "dataset=vidir_modern,vidir_molemax"
    selected = labels.only(select_rows(labels.metadata, where, "ham10000"))
    assert len(selected.ids) == 3363 + 3954
    counts = np.bincount(selected.labels).tolist()
    assert dict(zip(selected.class_names, counts, strict=True)) == {
        "MEL": 704,
        "NV": 5552,
        "BCC": 213,
        "AKIEC": 32,
        "BKL": 599,
        "DF": 81,
        "VASC": 136,
    }
