"""Counts of a split and what leaks through it, by hand and on real label files."""

import json
import runpy
import sys

import numpy as np
import pytest
from PIL import Image

from data.audit.audit import audit_split, format_audit
from data.labels import Labels
from data.prepared.prepare import open_dataset

TRAINING = {
    "ham10000": {"MEL": 779, "NV": 4693, "BCC": 360, "AKIEC": 229, "BKL": 769}
    | {"DF": 81, "VASC": 100},
    "isic2019": {"MEL": 3166, "NV": 9013, "BCC": 2327, "AK": 607, "BKL": 1836}
    | {"DF": 167, "VASC": 177, "SCC": 440},
}


LEAKS = {"ham10000": (513, 1502), "isic2019": (2199, 3799)}


def labels_of(groups: list[str] | None) -> Labels:
    labels = np.array([0, 0, 0, 1, 1, 0, 1], np.int32)
    ids = np.array([f"image {i}" for i in range(7)])
    return Labels(("often", "rare"), ids, labels, None if groups is None else np.array(groups))


ROWS = {"train": np.arange(4), "validation": np.array([4]), "test": np.array([5, 6])}


def test_counts_ratio_and_leaks() -> None:
    audit = audit_split(labels_of(["a", "b", "c", "d", "e", "b", "e"]), "paper", ROWS, 3)
    assert audit.class_counts["train"] == {"often": 3, "rare": 1}
    assert audit.class_counts["test"] == {"often": 1, "rare": 1}
    assert audit.imbalance_ratio == 3
    assert audit.leaked == {"often": 1, "rare": 0}
    first, heading, *lines = format_audit(audit).splitlines()
    assert first == (
        "split paper, seed 3, imbalance ratio 3.0, "
        "1 of 2 test images (50.0%) share a group with training"
    )
    assert heading.split() == ["class", "train", "validation", "test", "leaked"]
    assert lines[-2].split() == ["all", "4", "1", "2", "1"]
    assert lines[-1].startswith("No image of the class often is in the validation part: ")


def test_of_masks_the_shares_of_the_pixels_are_told() -> None:
    ids = np.array([f"image {i}" for i in range(7)])
    labels = Labels(("image",), ids, np.zeros(7, np.int32))
    pixels = {"skin": np.array([9, 9, 9, 9, 4, 5, 10]), "mole": np.array([1, 1, 1, 1, 6, 5, 0])}
    audit = audit_split(labels, "official", ROWS, 0, pixels=pixels)
    assert audit.pixel_shares == {
        "skin": {"train": 0.9, "validation": 0.4, "test": 0.75},
        "mole": {"train": 0.1, "validation": 0.6, "test": 0.25},
    }
    assert [line.split() for line in format_audit(audit).splitlines()] == [
        ["split", "official"],
        ["class", "train", "validation", "test"],
        ["all", "4", "1", "2"],
        ["pixels", "of", "skin", "90.00%", "40.00%", "75.00%"],
        ["pixels", "of", "mole", "10.00%", "60.00%", "25.00%"],
    ]


def test_without_groups_nothing_is_said_of_leaks() -> None:
    audit = audit_split(labels_of(None), "paper", ROWS, 0)
    assert audit.leaked is None
    assert "leaked" not in format_audit(audit)


def test_the_same_picture_in_two_parts_is_counted_and_named(tmp_path, monkeypatch, capsys) -> None:
    raw, random = tmp_path / "raw", np.random.default_rng(0)
    for number in range(40):
        (raw / f"class {number % 2}").mkdir(parents=True, exist_ok=True)
        if number != 39:
            coarse = random.integers(0, 256, (12, 16, 3), np.uint8)
            image = Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC)
        image.save(raw / f"class {number % 2}" / f"{number}.png")  # the last one twice
    lines = ["path,label,group,split"]
    for number in range(40):
        part = {39: "test", 38: "train", 0: "val"}.get(number, ("train", "val", "test")[number % 3])
        lines.append(f"class {number % 2}/{number}.png,c{number % 2},p{number % 25},{part}")
    (raw / "list.csv").write_text("\n".join(lines))
    monkeypatch.chdir(raw)
    command = ["data", "audit", "manifest:list.csv", "--data-dir", str(tmp_path / "data")]
    monkeypatch.setattr(sys, "argv", command)
    runpy.run_module("data", run_name="__main__")
    printed = capsys.readouterr().out
    assert "same picture in train and test: 1 test images (1 pairs byte for byte" in printed
    (folder,) = (tmp_path / "data" / "audits").glob("manifest-list_csv-*")
    official, paper, grouped = json.loads((folder / "audit.json").read_text())["splits"]
    assert [split["split"] for split in (official, paper, grouped)] == [
        "official",
        "paper",
        "grouped",
    ]
    assert official["same_pictures"] == [
        {
            "parts": ["train", "test"],
            "images": ["class 0/38.png", "class 1/39.png"],
            "identical": True,
            "distance": 0,
            "same_group": False,
        }
    ]
    with Image.open(folder / "classes.png") as figure:
        assert figure.width > 500


def test_what_cannot_be_decoded_and_what_cannot_be_split_is_said(
    tmp_path, monkeypatch, capsys
) -> None:
    lines = ["path,label,group"]
    for number in range(24):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{'rare' if number == 23 else 'often'},patient {number % 4}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    name = f"manifest:{tmp_path}/list.csv"
    records = open_dataset(name, tmp_path / "data")
    broken = [b"" if row == 5 else records.source[row] for row in range(24)]
    monkeypatch.setattr("data.sources.EncodedImages.__getitem__", lambda self, row: broken[row])
    monkeypatch.setattr(sys, "argv", ["data", "audit", name, "--data-dir", str(tmp_path / "data")])
    runpy.run_module("data", run_name="__main__")
    assert "1 images cannot be decoded: 5.png\n" in capsys.readouterr().out
    (path,) = (tmp_path / "data" / "audits").glob("*/audit.json")

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    results = json.loads(path.read_text(), parse_constant=refuse)
    assert results["broken"] == ["5.png"]
    assert [split["split"] for split in results["splits"]] == ["paper"]  # four patients are too few


def test_an_empty_class_has_an_endless_ratio() -> None:
    rows = {"train": np.array([0, 1]), "validation": np.array([2]), "test": np.array([3])}
    audit = audit_split(labels_of(None), "official", rows, 0)
    assert audit.imbalance_ratio is None
    assert format_audit(audit).startswith("split official, imbalance ratio endless\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINING)
def test_the_papers_counts_and_its_leaks(name, real_data, tmp_path, monkeypatch, capsys) -> None:
    command = ["data", "audit", name, "--labels-only", "--raw-dir", str(real_data(name))]
    monkeypatch.setattr(sys, "argv", [*command, "--data-dir", str(tmp_path)])
    runpy.run_module("data", run_name="__main__")
    assert "written to" in capsys.readouterr().out
    paper, grouped = json.loads((tmp_path / "audits" / name / "audit.json").read_text())["splits"]
    assert paper["class_counts"]["train"] == TRAINING[name]
    leaks = sum(paper["leaked"].values()), sum(paper["class_counts"]["test"].values())
    assert leaks == LEAKS[name]
    assert sum(grouped["leaked"].values()) == 0
    for part, counts in grouped["class_counts"].items():
        for class_name, count in counts.items():
            assert abs(count - paper["class_counts"][part][class_name]) <= 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("ham10000 --labels-only", "ham10000 needs --raw-dir"),
        ("ham10000 --raw-dir x", "--raw-dir goes with --labels-only"),
        ("ham1000 --labels-only --raw-dir x", "There is no dataset named 'ham1000'"),
        ("ham10000 --labels-only --raw-dir x", "GroundTruth.csv is missing"),
        ("digits_lt --labels-only", "digits_lt has no label files"),
        ("digits_lt --labels-only --raw-dir x", "digits_lt takes no --raw-dir"),
        ("ham1000", "There is no dataset named 'ham1000'"),
    ],
)
def test_a_wrong_command_line_is_one_clear_line(words, message, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["data", "audit", *words.split()])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("data", run_name="__main__")
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("python -m data: ") and message in printed
    assert printed.count("\n") == 1
