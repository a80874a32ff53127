"""``train.py --task multilabel --pair-by COLUMN`` to the report, and the commands on its run."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lmf_jax.inference import image_model
from lmf_jax.training import classification
from tests.helpers.tiny_commands import run_lmf_jax, run_train
from tests.helpers.tiny_training import tiny_model, tiny_models

pytestmark = pytest.mark.slow  # trains many models, by whole commands

tiny = tiny_models(tiny_model, classification, image_model)

PATIENTS = 60
QUICK = (
    *("--task", "multilabel", "--pair-by", "eye", "--image-size", "32", "--epochs", "12"),
    *("--batch-size", "8", "--learning-rate", "0.02", "--pretrained", "none"),
    *("--augment", "flip", "--normalization", "unit"),
)


def eyes_of(patient: int) -> tuple[str, ...]:
    """Return the eyes of a patient; every tenth has the right one alone."""
    return ("left", "right")[patient % 10 == 0 :]


def draw_eye(rng: np.random.Generator, is_red: bool, is_bright: bool) -> Image.Image:
    pixels = rng.integers(0, 60, (32, 32, 3), np.uint8)
    pixels[..., 0] += 160 * np.uint8(is_red)
    pixels[..., 1:] += 120 * np.uint8(is_bright)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a manifest of pairs of eyes and a run trained on it.

    A patient has the label red if one of the eyes is red: the eye alone does not tell it.
    """
    root = tmp_path_factory.mktemp("pairs")
    rng, rows = np.random.default_rng(0), []
    (root / "eyes").mkdir()
    for patient in range(PATIENTS):
        is_bright = patient % 3 == 0
        red_eye = (None, "left", "right")[patient % 3] if len(eyes_of(patient)) == 2 else None
        labels = "|".join(["red"] * (red_eye is not None) + ["bright"] * is_bright)
        for eye in eyes_of(patient):
            path = f"eyes/{patient:02}_{eye}.png"
            draw_eye(rng, eye == red_eye, is_bright).save(root / path)
            rows.append([path, labels, f"{patient:02}", eye])
    with (root / "eyes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "group", "eye"), *rows])
    with pytest.MonkeyPatch.context() as patch:
        assert run_train(patch, *QUICK, *data_flags(root), "--run-dir", root / "run") == 0
    return root


def data_flags(root: Path) -> list[object]:
    return ["--dataset", f"manifest:{root / 'eyes.csv'}", "--data-dir", root / "data"]


def test_the_patient_is_tested_and_learned_from_both_eyes(root: Path) -> None:
    test = json.loads((root / "run" / "test.json").read_text())
    with np.load(root / "run" / "predictions.npz") as file:
        assert 5 < len(file["ids"]) < PATIENTS / 4
        assert all(len(name) == 2 for name in file["ids"].tolist())
    assert test["mean_average_precision"] > 0.9


def test_a_run_is_resumed_and_tested_again_with_the_same_result(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    before = (root / "run" / "predictions.npz").read_bytes()
    resume = ("--task", "multilabel", "--run-dir", root / "run", "--resume")
    assert run_train(monkeypatch, *resume) == 0
    assert run_lmf_jax(monkeypatch, "evaluate", root / "run") == 0
    assert (root / "run" / "predictions.npz").read_bytes() == before
    assert run_train(monkeypatch, *resume, "--pair-by", "side") == 2
    assert "has no such column of metadata; it has eye" in capsys.readouterr().err


def test_images_of_a_folder_are_predicted_by_patient(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    table = root / "labels.csv"
    words = ("predict", root / "run", root / "eyes", "--output", table, "--overwrite")
    assert run_lmf_jax(monkeypatch, *words) == 0
    assert f"{PATIENTS} of {PATIENTS} images predicted" in capsys.readouterr().out
    with table.open(newline="") as file:
        found = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    assert sorted(found) == [f"{patient:02}" for patient in range(PATIENTS)]
    with np.load(root / "run" / "predictions.npz") as file:
        tested = dict(zip(file["ids"].tolist(), file["logits"], strict=True))
    calibration = json.loads((root / "run" / "calibration.json").read_text())
    for name, logits in tested.items():
        expected = 1 / (1 + np.exp(-logits / calibration["temperature"]))
        values = [float(found[name][f"p({label})"]) for label in ("bright", "red")]
        np.testing.assert_allclose(values, expected, atol=1e-4)


def test_the_heat_of_a_label_is_drawn_on_both_images(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    output = root / "heat"
    files = [root / "eyes" / f"{name}.png" for name in ("06_left", "06_right", "10_right")]
    assert run_lmf_jax(monkeypatch, "explain", root / "run", *files, "--output", output) == 0
    capsys.readouterr()
    stems = {path.stem for path in output.iterdir()}
    assert {"06_left-bright", "06_right-bright"} <= stems
    assert not any(stem.startswith("10_left") for stem in stems)  # the absent eye
    with Image.open(next(output.iterdir())) as picture:
        assert picture.size == (32, 32)


def test_patients_whose_images_were_seen_are_named_in_a_test_on_other_data(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    rng, rows = np.random.default_rng(1), []
    for patient in range(12):
        for eye in ("left", "right"):
            path = f"{patient}_{eye}.png"
            image = draw_eye(rng, eye == "left" and patient % 2 == 1, patient % 3 == 0)
            if (patient, eye) == (5, "right"):  # the other images are new
                with np.load(root / "run" / "validation_predictions.npz") as file:
                    seen = next(name for name in file["ids"].tolist() if name[-1] != "0")
                image = Image.open(root / "eyes" / f"{seen}_right.png")
            image.save(tmp_path / path)
            label = "|".join(["red"] * (patient % 2) + ["bright"] * (patient % 3 == 0))
            rows.append([path, label, f"new {patient}", eye])
    with (tmp_path / "new.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "group", "eye"), *rows])
    words = ("evaluate", root / "run", "--dataset", f"manifest:{tmp_path / 'new.csv'}")
    assert run_lmf_jax(monkeypatch, *words) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 of 12 images were seen in training and are left out" in printed
    assert "mAP" in printed


def test_a_file_of_no_pair_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "eye.png")
    words = ("predict", root / "run", tmp_path, "--output", tmp_path / "labels.csv")
    assert run_lmf_jax(monkeypatch, *words) == 2
    assert "eye.png belongs to no pair" in capsys.readouterr().err


def test_a_task_of_classes_has_no_pairs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert run_train(monkeypatch, "--pair-by", "eye") == 2
    assert "--pair-by" in capsys.readouterr().err
