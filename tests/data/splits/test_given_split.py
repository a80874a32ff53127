"""How far a split leaks that somebody else made and wrote to a file."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from data.labels import Labels
from data.splits.given_split import read_split, split_csv
from data.splits.methods import make_split
from lmf_jax.errors import UserError
from tests.data.test_labels import read

NAMES = ["a/1.png", " b,2.png", "c\u0301.png", "d", "e"]
LABELS = Labels(("x", "y"), np.array(NAMES), np.array([0, 1, 0, 1, 0], np.int32))


def write(folder: Path, text: str, name: str = "split.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_csv_file_may_name_some_of_the_images_in_common_spellings(tmp_path: Path) -> None:
    path = write(tmp_path, "part,image,fold\nTrain,d,1\n val ,a/1.png,1\ntesting,\u0107.png,2\n")
    rows = read_split(path, LABELS)
    assert {part: found.tolist() for part, found in rows.items()} == {
        "train": [3],
        "validation": [0],
        "test": [2],
    }


def test_a_split_that_was_written_is_read_back(tmp_path: Path) -> None:
    rows = {"train": np.array([1, 3]), "validation": np.array([4]), "test": np.array([0, 2])}
    written = write(tmp_path, split_csv(LABELS, rows))
    parts = {part: LABELS.ids[found].tolist() for part, found in rows.items()}
    as_json = write(tmp_path, json.dumps({"fingerprint": "f", "version": 1, **parts}), "own.json")
    for path in (written, as_json):
        again = read_split(path, LABELS)
        assert {part: found.tolist() for part, found in again.items()} == {
            part: found.tolist() for part, found in rows.items()
        }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "image\nd\n", "lacks the column part"),
        ("a.csv", "image,part\nd,train\nd,test\n", "names d twice"),
        (
            "a.csv",
            "image,part\nd,train\n?,test\n!,test\n",
            r"2 images that the dataset lacks \(\?,",
        ),
        ("a.csv", "image,part\nd,train\ne,holdout\n", "Line 3 .* puts e into the part 'holdout'"),
        ("a.csv", "image,part\nd,train\ne,val\n", "no image in the test part"),
        ("a.csv", "image,part\nd,test\n", "no image in the train part"),
        ("a.json", '{"train": ["d"], "test": ["d"]}', "names d twice"),
        ("a.json", '{"train": ["d"], "test": [1]}', "gives test as something else than a list"),
        ("a.json", '{"train": "d", "test": ["e"]}', "gives train as something else than a list"),
        ("a.json", "[]", "is no JSON object"),
        ("a.json", "{", "cannot be read as JSON"),
        ("a.json", "{}", "no image in the train part"),
    ],
)
def test_a_wrong_file_is_one_clear_line(name: str, text: str, message: str, tmp_path) -> None:
    with pytest.raises(UserError, match=message) as error:
        read_split(write(tmp_path, text, name), LABELS)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.csv cannot be read"):
        read_split(tmp_path / "none.csv", LABELS)


def audit(monkeypatch, capsys, *words: str | Path) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["data", "audit", *map(str, words)])
    runpy.run_module("data", run_name="__main__")
    return capsys.readouterr().out.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "leak"),
    [
        ("ham10000", "513 of 1502 test images (34.2%) share a group with training"),
        ("odir5k", "618 of 959 test images (64.4%) share a group with training"),
    ],
)
def test_the_leak_of_a_written_split_is_that_of_the_audit(
    name: str, leak: str, real_data, tmp_path: Path, monkeypatch, capsys
) -> None:
    raw = real_data(name)
    options = [name, "--labels-only", "--raw-dir", raw, "--data-dir", tmp_path]
    printed = audit(monkeypatch, capsys, *options)
    assert any(line.startswith("split paper, seed 0") and leak in line for line in printed)
    written = tmp_path / "audits" / name / "splits" / "paper.csv"
    labels = read(name, raw)
    parts = make_split(labels, "paper", 0).items()
    names = {part: labels.ids[rows].tolist() for part, rows in parts}
    as_json = write(tmp_path, json.dumps(names), "paper.json")
    for path in (written, as_json):
        again = audit(monkeypatch, capsys, *options, "--split-file", path)
        assert again[0].startswith(f"split {path.name}, imbalance ratio") and leak in again[0]
    results = json.loads(
        (tmp_path / "audits" / f"{name}-split-paper_csv" / "audit.json").read_text()
    )
    assert results["splits"][0]["split_seed"] is None


def test_images_in_no_part_are_counted(tmp_path: Path, monkeypatch, capsys) -> None:
    lines = ["path,label,group", *(f"{i}.png,{'ab'[i % 2]},p{i // 3}" for i in range(12))]
    write(tmp_path, "\n".join(lines), "list.csv")
    path = write(
        tmp_path, "image,part\n0.png,train\n1.png,test\n2.png,val\n3.png,train\n6.png,test\n"
    )
    name = f"manifest:{tmp_path}/list.csv"
    options = [name, "--labels-only", "--data-dir", tmp_path / "d", "--split-file", path]
    printed = audit(monkeypatch, capsys, *options)
    assert "1 of 2 test images (50.0%) share a group with training" in printed[0]
    assert "7 images of the dataset are in no part of the split" in printed
    assert (
        "No image of the class b is in the validation part: the split file has none there."
        in printed
    )
    with pytest.raises(SystemExit):
        audit(monkeypatch, capsys, *options, "--where", "x=y")
    assert "--where does not go with --split-file" in capsys.readouterr().err
