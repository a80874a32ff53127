"""``train.py --task classification`` on scans of a manifest, and every command on its runs."""

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from lmf_jax.evaluation.classification.mistakes import read_mistakes
from lmf_jax.inference import image_model
from lmf_jax.models.architectures.resnet_3d import ResNet3D
from lmf_jax.runs.folder import read_config
from lmf_jax.training import classification
from tests.helpers.tiny_commands import run_lmf_jax, run_train
from tests.helpers.tiny_training import tiny_model, tiny_models
from tests.helpers.volume_downloads import save_nifti

QUICK = ("--epochs", 1, "--batch-size", 8, "--learning-rate", 0.01)
SMALL = ("--image-size", "8,32,32")
CLASSES = ("healthy", "lesion")


def tiny_volume_model(*, dtype=np.float32, axis_name=None, remat=False, **settings):
    """Return a classifier of volumes with two narrow blocks."""
    backbone = ResNet3D((1, 1), width=4, dtype=dtype, axis_name=axis_name, remat=remat)
    model = tiny_model(dtype=dtype, axis_name=axis_name, **settings)
    return model.clone(backbone=backbone, spatial_dims=3)


tiny = tiny_models(tiny_volume_model, classification, image_model)
pytestmark = pytest.mark.usefixtures("without_pictures")


def make_scan(path: Path, has_lesion: bool, seed: int, air: float = -1000.0) -> None:
    """Write a scan in Hounsfield units, with a bright lesion on the upper right or without one."""
    values = np.random.default_rng(seed).normal(40, 20, (10, 16, 14))
    values[:, :3] = air
    if has_lesion:
        values[6:9, 8:12, 8:12] += 600
    save_nifti(path, values.astype(np.int16), (3.0, 1.5, 1.5), ("RAS", "LPS", "SPL")[seed % 3])


def write_manifest(path: Path, names, columns=None) -> str:
    """Write a manifest in which every third scan is healthy; return the name of the dataset."""
    columns = columns or {}
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", *columns])
        for row, name in enumerate(names):
            writer.writerow([name, CLASSES[row % 3 > 0], *(v[row] for v in columns.values())])
    return f"manifest:{path}"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Return a folder with 24 scans of 12 patients, and a manifest of them."""
    root = tmp_path_factory.mktemp("scans")
    names = [f"{row}.nii{'.gz' if row % 2 else ''}" for row in range(24)]
    for row, name in enumerate(names):
        make_scan(root / name, row % 3 > 0, row)
    patients = [f"patient {row // 2}" for row in range(24)]
    write_manifest(root / "scans.csv", names, {"group": patients, "sex": ["f", "m"] * 12})
    return root


def train(root: Path, run: str, *words: object) -> object:
    """Run ``train.py`` on the scans; return its exit code."""
    words = (*QUICK, *words) if "--resume" not in words else words
    if "--dataset" not in words:
        words = ("--dataset", f"manifest:{root / 'scans.csv'}", *words)
    with pytest.MonkeyPatch.context() as patch:
        return run_train(patch, *words, "--data-dir", root / "data", "--run-dir", root / run)


def call(*words: object) -> object:
    """Run ``python -m lmf_jax`` with these words; return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        return run_lmf_jax(patch, *words)


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())


def lines_of(run: Path) -> list[str]:
    return (run / "metrics.jsonl").read_text().splitlines()


@pytest.fixture(scope="module")
def run(root) -> Path:
    """Return a run of two epochs, the second after ``--resume``."""
    words = (*SMALL, "--split", "grouped", "--metadata", "sex", "--augment", "shift")
    assert train(root, "run", *words) == 0
    assert train(root, "run", "--resume", "--epochs", 2) == 0
    return root / "run"


def test_the_record_has_model_size_channels_and_intensities(run, root):
    record = read_json(run / "config.json")
    config = record["config"]
    assert (config["model"], config["image_size"]) == ("resnet18_3d", [8, 32, 32])
    assert (config["channels"], config["pretrained"]) == (1, "none")
    assert read_config(run).data.image_spec.shape == (8, 32, 32, 1)
    dataset = record["dataset"]
    assert dataset["intensity_range"] == [-1000, 1000]
    assert "of 24 volumes become 0 to 255 (in Hounsfield units)" in dataset["intensities"]
    (_,) = (root / "data" / "images").glob("*-8x32x32px-gray-v*.npy")


def test_a_resumed_run_equals_one_that_was_never_stopped(run, root):
    words = (*SMALL, "--split", "grouped", "--metadata", "sex", "--augment", "shift")
    assert train(root, "whole", *words, "--epochs", 2) == 0
    assert lines_of(root / "whole") == lines_of(run)
    assert read_json(root / "whole" / "test.json") == read_json(run / "test.json")


def test_evaluate_compare_and_card_take_the_run(run, root, capsys):
    tested = read_json(run / "test.json")
    assert call("evaluate", run) == 0
    assert read_json(run / "test.json") == tested
    assert call("evaluate", run, "--tta", "flip", "--subgroups", "") == 0
    assert train(root, "other", *SMALL, "--split", "grouped", "--seed", 1) == 0
    capsys.readouterr()
    assert call("compare", run, root / "other") == 0
    assert "macro F1" in capsys.readouterr().out
    assert call("card", run) == 0
    card = (run / "card" / "model_card.md").read_text()
    assert "in voxels: 8 x 32 x 32" in card and "in Hounsfield units" in card


def test_predict_takes_a_file_and_a_folder(run, root, tmp_path, capsys):
    one, folder = tmp_path / "one.csv", tmp_path / "all.csv"
    assert call("predict", run, root / "1.nii.gz", "--output", one) == 0
    capsys.readouterr()
    assert call("predict", run, root, "--output", folder, "--ensemble", run) == 2
    assert call("predict", run, root, "--output", folder) == 0
    printed = capsys.readouterr().out
    assert "24 of 24 images predicted" in printed
    assert "1 file in" in printed and "scans.csv; volumes are NIfTI files" in printed
    with one.open(newline="") as file, folder.open(newline="") as others:
        (row,) = csv.DictReader(file)
        assert row in list(csv.DictReader(others))


def test_explain_shows_the_slice_with_the_most_heat(run, root, tmp_path, capsys):
    assert call("explain", run, root / "1.nii.gz", "--output", tmp_path) == 0
    (picture,) = tmp_path.iterdir()
    assert picture.name in ("1-healthy.png", "1-lesion.png")
    with Image.open(picture) as image:
        assert image.size == (14, 16)


def test_the_report_shows_slices_of_the_mistakes(run, root):
    num_tested = sum(c["support"] for c in read_json(run / "test.json")["per_class"].values())
    mistakes = read_mistakes(run, num_tested)
    assert mistakes is not None
    k = len(mistakes.indices)
    for pictures in (mistakes.images, mistakes.slices_of_predicted, mistakes.slices_of_true):
        assert pictures.shape == (k, 32, 32, 3)
    assert mistakes.heat_of_true.shape[0] == k and mistakes.heat_of_true.ndim == 3
    report = (run / "report.html").read_text()
    assert ("axial slices of volumes" in report) == (k > 0)


def test_one_number_is_the_side_of_a_cube_and_mri_is_scaled_scan_by_scan(tmp_path, capsys):
    names = [f"{row}.nii.gz" for row in range(12)]
    for row, name in enumerate(names):
        make_scan(tmp_path / name, row % 3 > 0, row, air=0.0)
    write_manifest(tmp_path / "scans.csv", names)
    assert train(tmp_path, "run", "--image-size", 32, "--mixup", 0.2, "--augment", "mirror") == 0
    assert "0 to 255 are the percentiles 0.5 and 99.5 of each volume" in capsys.readouterr().out
    record = read_json(tmp_path / "run" / "config.json")
    assert record["config"]["image_size"] == [32, 32, 32]
    assert "intensity_range" not in record["dataset"]
    output = tmp_path / "out.csv"
    assert call("predict", tmp_path / "run", tmp_path / names[0], "--output", output) == 0


REFUSED = {
    "a model of images": (
        ("--model", "resnet50"),
        "--model resnet50 takes images, and manifest:{csv} has volumes; use --model resnet18_3d.",
    ),
    "a size of images": (
        ("--image-size", "32,48"),
        "--image-size 32,48 is of images, and manifest:{csv} has volumes; give one number, or "
        "DEPTH,HEIGHT,WIDTH.",
    ),
    "few slices": (
        ("--image-size", "4,32,32"),
        "--image-size is 4,32,32; expected at least 32 pixels, and 8 slices of a volume.",
    ),
    "quarter turns": (
        (*SMALL, "--augment", "dihedral"),
        "not defined for volumes; use --augment flip, shift or mirror.",
    ),
    "quarter turns of a cube": (
        ("--image-size", "32", "--augment", "dihedral"),
        "not defined for volumes; use --augment flip, shift or mirror.",
    ),
    "cutmix": ((*SMALL, "--cutmix", "1"), "--cutmix pastes boxes of images, not of volumes"),
    "padding": ((*SMALL, "--resize", "pad"), "--resize pad is for images; volumes are resampled"),
    "the paper's recipe": (("--recipe", "paper"), "--recipe paper is for images, and manifest:"),
    "several labels": (
        ("--task", "multilabel"),
        "{csv} lists volumes (NIfTI files), which have one class each; expected images",
    ),
}


@pytest.mark.parametrize(("words", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_volumes_is_refused_in_one_sentence(root, words, message, capsys):
    assert train(root, "refused", *words) == 2
    error = capsys.readouterr().err
    assert message.format(csv=root / "scans.csv") in error and error.count("\n") == 1
    assert not (root / "refused").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "resnet18_3d"), "resnet18_3d takes volumes, and digits_lt has images; use -"),
        (SMALL, "--image-size 8,32,32 is of volumes, and digits_lt has images; give one number"),
    ],
)
def test_what_does_not_fit_images_is_refused_in_one_sentence(tmp_path, words, message, capsys):
    assert train(tmp_path, "refused", "--dataset", "digits_lt", *words) == 2
    assert message in capsys.readouterr().err


def test_a_run_on_volumes_is_not_tested_on_images(run, tmp_path, capsys):
    for number in range(4):
        Image.new("RGB", (32, 32), (number * 60,) * 3).save(tmp_path / f"{number}.png")
    other = write_manifest(tmp_path / "images.csv", [f"{number}.png" for number in range(4)])
    assert call("evaluate", run, "--dataset", other) == 2
    assert "has images, and the model takes volumes; give volumes." in capsys.readouterr().err
    assert call("predict", run, tmp_path / "0.png", "--output", tmp_path / "out.csv") == 2
    assert "0.png (it is damaged or not a NIfTI file" in capsys.readouterr().err


def test_a_window_is_set_and_used_by_the_run(run, tmp_path, monkeypatch, capsys):
    from data.__main__ import main

    names = [f"{row}.nii.gz" for row in range(12)]
    for row, name in enumerate(names):
        make_scan(tmp_path / name, row % 3 > 0, row)
    dataset = write_manifest(tmp_path / "scans.csv", names)
    for window in ("-160,240", "0,700"):  # before it is prepared, and after
        words = ("prepare", dataset, "--data-dir", str(tmp_path / "data"))
        monkeypatch.setattr("sys.argv", ["data", *words, f"--intensity-range={window}"])
        main()
        assert f"{window.replace(',', ' to ')} of 12 volumes" in capsys.readouterr().out
    assert train(tmp_path, "run", *SMALL) == 0
    record = read_json(tmp_path / "run" / "config.json")["dataset"]
    assert record["intensity_range"] == [0, 700] and "as given" in record["intensities"]
    assert call("evaluate", run, "--dataset", dataset) == 0  # with the range of the run
    assert len(list((run / "external").iterdir())) == 1


def spoil_nan(path: Path) -> None:
    save_nifti(path, np.full((4, 8, 8), np.nan, np.float32))


def spoil_4d(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((8, 8, 4, 3), np.int16), np.eye(4)), path)


def spoil_bytes(path: Path) -> None:
    path.write_bytes(b"no scan at all")


BROKEN = {
    "a value that is not a number": (spoil_nan, "0.nii: it has a value that is not finite"),
    "a series": (spoil_4d, "0.nii: it has 8 x 8 x 4 x 3 values; expected one volume of three dim"),
    "an unreadable file": (spoil_bytes, "0.nii: it is damaged or not a NIfTI file"),
    "a missing file": (Path.unlink, "0.nii: the file is missing"),
}


@pytest.mark.parametrize(("spoil", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named(tmp_path, spoil, message, capsys):
    names = [f"{row}.nii" for row in range(6)]
    for row, name in enumerate(names):
        make_scan(tmp_path / name, row % 3 > 0, row)
    write_manifest(tmp_path / "scans.csv", names)
    spoil(tmp_path / "0.nii")
    assert train(tmp_path, "run", *SMALL) == 2
    error = capsys.readouterr().err
    assert f"1 of 6 images in {tmp_path / 'scans.csv'}" in error and message in error


def test_volumes_and_images_are_not_mixed(tmp_path, capsys):
    make_scan(tmp_path / "0.nii", True, 0)
    Image.new("RGB", (32, 32)).save(tmp_path / "1.png")
    write_manifest(tmp_path / "scans.csv", ["0.nii", "1.png"])
    assert train(tmp_path, "run", *SMALL) == 2
    assert "lists the volume 0.nii and the image 1.png; expected" in capsys.readouterr().err


def test_constant_volumes_and_single_slices_are_trained_on(tmp_path):
    names = [f"{row}.nii.gz" for row in range(12)]
    for row, name in enumerate(names):
        make_scan(tmp_path / name, row % 3 > 0, row, air=0.0)
    save_nifti(tmp_path / names[0], np.full((4, 8, 8), 7, np.int16))
    save_nifti(tmp_path / names[1], np.arange(64, dtype=np.int16).reshape(1, 8, 8))
    write_manifest(tmp_path / "scans.csv", names)
    assert train(tmp_path, "run", *SMALL) == 0
    output = tmp_path / "out.csv"
    assert call("predict", tmp_path / "run", tmp_path, "--output", output) == 0
    with output.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 12
