"""Of a dataset with training and test alone, validation is cut from training; a line says so."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.labels import Labels
from data.splits.dataset import load_dataset
from data.splits.notes import VALIDATION_FROM_TRAINING
from data.splits.segmentation import load_segmentation_dataset
from data.splits.validation_cut import cut_validation
from lmf_jax.errors import UserError


def save_picture(path: Path, seed: int, shape: tuple[int, ...] = (6, 8, 3)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("parts", [("train", "test"), ("Training", "Testing")])
def test_of_folders_validation_is_cut_by_class(parts: tuple[str, str], tmp_path: Path) -> None:
    for part, counts in zip(parts, ((40, 7), (5, 5)), strict=True):
        for name, count in zip(("glioma", "none"), counts, strict=True):
            for number in range(count):
                save_picture(tmp_path / "raw" / part / name / f"{number:02d}.png", number)
    load = lambda **options: load_dataset(  # noqa: E731
        f"folder:{tmp_path / 'raw'}", data_dir=tmp_path / "data", **options
    )
    dataset = load()
    assert dataset.defaults["split"] == "official"
    counts = {part: dataset.class_counts(part).tolist() for part in dataset.rows}
    assert counts == {"train": [34, 6], "validation": [6, 1], "test": [5, 5]}
    rows = np.concatenate(list(dataset.rows.values()))
    assert sorted(rows.tolist()) == list(range(57))
    assert list(dataset.split_notes) == [VALIDATION_FROM_TRAINING]
    other = load(split_seed=1)
    assert other.rows["validation"].tolist() != dataset.rows["validation"].tolist()
    np.testing.assert_array_equal(other.rows["test"], dataset.rows["test"])
    assert load().rows["validation"].tolist() == dataset.rows["validation"].tolist()
    names = {path.name for path in (tmp_path / "data").rglob("splits/*.json")}
    assert names == {"official-seed0.json", "official-seed1.json"}


def test_the_audit_says_that_validation_is_cut(tmp_path: Path, monkeypatch, capsys) -> None:
    path = manifest(tmp_path, 10)
    for command, said in (
        (
            ["prepare"],
            "there is no validation part: train.py takes 15 % of the training part for it",
        ),
        (
            ["audit", "--split-seed", "2"],
            f"official, seed 2, .*{re.escape(VALIDATION_FROM_TRAINING)}",
        ),
    ):
        options = [command[0], f"manifest:{path}", *command[1:], "--data-dir", f"{tmp_path}/data"]
        monkeypatch.setattr(sys, "argv", ["data", *options])
        runpy.run_module("data", run_name="__main__")
        assert re.search(said, capsys.readouterr().out, re.DOTALL)


def manifest(folder: Path, patients: int) -> Path:
    """Three images a patient, the last one of class rare; every fifth patient tests."""
    lines = ["path,label,group,split"]
    for patient in range(patients):
        for number in range(3):
            name = f"{patient}-{number}.png"
            save_picture(folder / name, 3 * patient + number)
            part = "test" if patient % 5 == 0 else "train"
            lines.append(f"{name},{'rare' if number == 2 else 'often'},p{patient},{part}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder / "list.csv"


@pytest.mark.parametrize("patients", [3, 6, 40])
def test_of_a_manifest_validation_is_cut_by_group(patients: int, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    path = manifest(tmp_path / "raw", patients)
    dataset = load_dataset(f"manifest:{path}", data_dir=tmp_path / "data")
    groups = {part: set(dataset.groups_of(part)) for part in dataset.rows}
    assert not groups["train"] & groups["validation"]
    assert groups["test"] == {f"p{patient}" for patient in range(0, patients, 5)}
    assert all(dataset.class_counts(part).all() for part in dataset.rows)
    num_train = len(dataset.rows["train"]) + len(dataset.rows["validation"])
    if patients == 40:
        assert len(dataset.rows["validation"]) / num_train == pytest.approx(0.15, abs=0.05)
    assert dataset.split_notes[0] == VALIDATION_FROM_TRAINING


def test_a_single_training_patient_cannot_be_divided(tmp_path: Path) -> None:
    path = manifest(tmp_path, 2)
    with pytest.raises(UserError, match="No image is in the validation part by --split official"):
        load_dataset(f"manifest:{path}", data_dir=tmp_path / "data")


def test_of_pairs_validation_is_cut_too(tmp_path: Path) -> None:
    for part, count in (("Training", 20), ("Testing", 4)):
        for number in range(count):
            save_picture(tmp_path / "images" / part / f"{part}{number}.png", number)
            mask = tmp_path / "masks" / f"{part}{number}.png"
            mask.parent.mkdir(exist_ok=True)
            Image.fromarray(np.eye(6, 8, dtype=np.uint8)).save(mask)
    name = f"pairs:{tmp_path / 'images'},{tmp_path / 'masks'}"
    dataset = load_segmentation_dataset(name, data_dir=tmp_path / "data")
    assert [len(rows) for rows in dataset.rows.values()] == [17, 3, 4]
    assert dataset.description["split_notes"] == [VALIDATION_FROM_TRAINING]


def test_the_cut_is_the_same_on_every_machine() -> None:
    parts = np.array(["train"] * 20 + ["test"] * 3)
    labels = np.arange(23, dtype=np.int32) % 2
    known = Labels(("a", "b"), np.arange(23).astype(str), labels, parts=parts)
    assert cut_validation(known, 0)["validation"].tolist() == [12, 13, 15, 16]
