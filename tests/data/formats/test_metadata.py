"""Metadata: read from label files, stored beside the images, and no part of a fingerprint."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.__main__ import Prepare, run_prepare
from data.datasets.manifest.labels import read_labels as read_manifest
from data.formats.metadata import METADATA_FILE, make_metadata
from data.prepared.images import open_prepared
from data.prepared.prepare import open_dataset, prepare
from data.splits.dataset import load_dataset
from lmf_jax.errors import UserError
from tests.data.test_labels import download, read

DUMMIES = Path(__file__).parents[3] / "data" / "datasets"


def write_manifest(folder: Path, header: str, values: list[str]) -> Path:
    """Write a manifest with an image and some further values per line, and its images."""
    lines = [f"path,label{header}"]
    for number, value in enumerate(values):
        pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{'ab'[number % 2]}{value}")
    path = folder / "list.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_every_further_column_of_a_manifest_is_metadata(tmp_path: Path) -> None:
    path = write_manifest(tmp_path, ", sex ,age,group", [",f,61.0,p", ", m ,nan,q", ",Unknown,,"])
    labels = read_manifest(path)
    assert {name: values.tolist() for name, values in labels.metadata.items()} == {
        "sex": ["f", "m", ""],
        "age": ["61", "", ""],
    }
    assert labels.groups is not None
    kept = labels.without(["1.png"]).metadata
    assert [values.tolist() for values in kept.values()] == [["f", ""], ["61", ""]]


@pytest.mark.parametrize("value", ["x" * 101, "a\x07b", "a\u2028b"])
def test_a_column_that_no_table_could_show_is_left_out(value: str, tmp_path: Path) -> None:
    path = write_manifest(tmp_path, ",notes,sex", [f",{value},f", ",,m"])
    assert list(read_manifest(path).metadata) == ["sex"]


def test_at_most_fifty_columns_with_printable_names_are_kept() -> None:
    columns = {"": ["a"], "b\x07d": ["a"], "x" * 101: ["a"]} | {str(i): ["a"] for i in range(60)}
    assert list(make_metadata(columns)) == [str(number) for number in range(50)]


def test_downloads_bring_the_columns_that_their_files_have(tmp_path: Path) -> None:
    download(tmp_path, "ham10000")
    text = "image_id,lesion_id,dx,sex,age,dataset\nb,L1,mel,male,80.0,rosendahl\nc,L1,mel,,nan,x\n"
    (tmp_path / "HAM10000_metadata.csv").write_text(text)
    metadata = read("ham10000", tmp_path).metadata
    assert {name: values.tolist() for name, values in metadata.items()} == {
        "age": ["", "80", ""],
        "sex": ["", "male", ""],
        "dataset": ["", "rosendahl", "x"],
    }


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("ham10000", ["dx_type", "age", "sex", "localization", "dataset"]),
        ("isic2019", ["age_approx", "gender", "anatom_site_general"]),
        ("odir5k", ["Patient Age", "Patient Sex", "side"]),
    ],
)
def test_the_real_files_bring_their_metadata(name: str, columns: list[str], real_data) -> None:
    metadata = read(name, real_data(name)).metadata
    assert list(metadata) == columns
    for values in metadata.values():
        assert np.mean(values == "") < 0.15


def test_the_sources_of_ham10000_are_counted_as_in_its_file(real_data) -> None:
    raw = real_data("ham10000")
    with (raw / "HAM10000_metadata.csv").open() as file:
        expected = Counter(row["dataset"] for row in csv.DictReader(file))
    assert Counter(read("ham10000", raw).metadata["dataset"].tolist()) == expected


def test_a_prepared_dataset_has_its_metadata_and_an_earlier_one_none(
    tmp_path: Path, capsys
) -> None:
    sexes = [",f,30", ",m,40", ",,50"] * 4
    name = f"manifest:{write_manifest(tmp_path, ',sex,age', sexes)}"
    prepared = prepare(name, None, tmp_path / "data")
    assert prepared.metadata["sex"].tolist() == ["f", "m", ""] * 4
    features = json.loads((prepared.folder / "features.json").read_text())
    assert "sex" not in json.dumps(features)

    (prepared.folder / METADATA_FILE).unlink()  # as an earlier version prepared it
    earlier = open_dataset(name, tmp_path / "data")
    assert earlier.metadata == {}
    assert earlier.fingerprint == prepared.fingerprint
    with pytest.raises(UserError, match=r"has no metadata to select by; .* run python -m data"):
        load_dataset(name, data_dir=tmp_path / "data", where="sex=f")

    run_prepare(Prepare(name, data_dir=str(tmp_path / "data")))
    assert "metadata: sex, age\n" in capsys.readouterr().out
    again = open_dataset(name, tmp_path / "data")
    assert again.metadata["age"].tolist() == ["30", "40", "50"] * 4
    assert again.fingerprint == prepared.fingerprint


def test_missing_metadata_are_taken_only_from_the_same_download(tmp_path: Path) -> None:
    raw = DUMMIES / "odir5k" / "dummy_data"
    prepared = prepare("odir5k", raw, tmp_path)
    assert set(prepared.metadata["side"].tolist()) == {"left", "right"}
    (prepared.folder / METADATA_FILE).unlink()
    other = tmp_path / "other"
    other.mkdir()
    rows = (raw / "full_df.csv").read_text().splitlines()
    (other / "full_df.csv").write_text("\n".join(rows[:-1]) + "\n")
    options = {"data_dir": str(tmp_path)}
    with pytest.raises(UserError, match=r"lack 1 of the images in .*, such as 9003_right; give"):
        run_prepare(Prepare("odir5k", raw_dir=str(other), **options))
    run_prepare(Prepare("odir5k", raw_dir=str(raw), **options))
    again = open_prepared(prepared.folder)
    assert again.metadata["side"].tolist() == prepared.metadata["side"].tolist()


@pytest.mark.parametrize(
    "content",
    ["[]", '{"sex": ["f"]}', '{"sex": [1, 2]}', '{"sex": "ff"}', '{"s\\u0007": ["f", "m"]}', "{"],
)
def test_a_wrong_file_of_metadata_is_refused(content: str, tmp_path: Path) -> None:
    name = f"manifest:{write_manifest(tmp_path, ',sex', [',f', ',m'])}"
    prepared = prepare(name, None, tmp_path / "data")
    (prepared.folder / METADATA_FILE).write_text(content)
    with pytest.raises(UserError, match=r"has no complete dataset .* remove it and prepare"):
        open_dataset(name, tmp_path / "data")
