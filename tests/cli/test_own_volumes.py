"""``train.py --dataset volumes:...`` on volumes of the user, from the command to label maps."""

import dataclasses
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from data.formats.nifti import open_nifti
from lmf_jax.inference import segmenter
from lmf_jax.inference.segmenter import load_segmenter
from lmf_jax.inference.segmenter_ensemble import SegmenterEnsemble
from lmf_jax.inference.views import VIEWS
from lmf_jax.models.normalization import VolumeNormalization
from lmf_jax.training import segmentation
from tests.cli.test_segment import lines_of, results_of, train, type_in
from tests.helpers.tiny_training import stop_after, tiny_models, tiny_unet
from tests.helpers.volume_downloads import make_folders, make_nnunet

tiny = tiny_models(tiny_unet, segmentation, segmenter)
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_pictures")]

QUICK = ["--epochs", "2", "--learning-rate", "1e-2", "--loss", "mixed-focal", "--batch-size", "4"]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Return a folder with volumes in nnU-Net's layout, two of them as test images too."""
    root = tmp_path_factory.mktemp("own")
    make_nnunet(root / "nnunet", 14, modalities=("CT", "T2"))
    (root / "nnunet" / "imagesTs").mkdir()
    for file in (root / "nnunet" / "imagesTr").glob("scan-0[01]_*"):
        shutil.copy(file, root / "nnunet" / "imagesTs")
    return root


def nnunet(root: Path) -> list[str]:
    return ["--dataset", f"volumes:{root / 'nnunet'}", *QUICK]


@pytest.fixture(scope="module")
def whole(root: Path) -> Path:
    """Return a run that was never stopped."""
    assert train(root / "run", root / "data", *nnunet(root)) == 0
    return root / "run"


def check_label_map(path: Path, labels: Path) -> None:
    """Check that a prediction has the geometry of a label map, and no other labels."""
    predicted, expected = nibabel.load(path), nibabel.load(labels)
    assert predicted.shape == expected.shape
    assert nibabel.aff2axcodes(predicted.affine) == nibabel.aff2axcodes(expected.affine)
    np.testing.assert_allclose(predicted.affine, expected.affine, atol=1e-4)
    open_nifti(path).read_labels((0, 1, 7))


def check_plan(run: Path, printed: list[str]) -> None:
    """Check that the plan is printed and recorded, with statistics of the training cases."""
    plan = "planned from 14 cases: voxels of 3 x 1.5 x 1.05 mm (z, y, x), patches of 16 x 32 x 32 "
    plan += "in batches of 2; CT normalized over the training cases, T2 per case"
    assert plan in printed
    assert any(line.startswith("intensities of the foreground of 10 training") for line in printed)
    assert any("imagesTs is not used" in line for line in printed)
    record = json.loads((run / "config.json").read_text())
    assert record["config"]["patch_size"] == [16, 32, 32]
    intensity = record["dataset"]["intensity"]
    normalization = load_segmenter(run).normalization
    assert normalization.modalities[0].mean == intensity[0]["mean"]
    assert normalization.modalities[1] is intensity[1] is None


def test_volumes_in_nnunets_layout_train_resume_and_predict_in_their_geometry(
    root: Path, whole: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, 3)  # in the middle of the second epoch
        assert train(run, root / "data", *nnunet(root)) == 143
    shutil.rmtree(root / "data")  # prepared again, by the same plan
    capsys.readouterr()
    assert train(run, root / "data", "--resume") == 0
    check_plan(run, capsys.readouterr().out.splitlines())
    assert lines_of(run) == lines_of(whole)
    assert results_of(run) == results_of(whole)
    assert list(results_of(run)["per_class"]) == ["background", "organ", "lesion"]
    assert results_of(run)["hd95_unit"] == "mm"

    words = ["predict", run, root / "nnunet" / "imagesTs", "--output", tmp_path / "out"]
    assert type_in(*words) == 0
    assert "2 of 2 cases segmented" in capsys.readouterr().out
    names = ["scan-00.nii.gz", "scan-01.nii.gz"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    for name in names:
        check_label_map(tmp_path / "out" / name, root / "nnunet" / "labelsTr" / name)
    assert type_in("card", run) == 0
    card = (run / "card" / "model_card.md").read_text()
    assert "ct, z-score" in card and "patients of the cases are unknown" in card
    assert type_in("evaluate", run) == 0
    assert results_of(run) == results_of(whole)


def test_two_folders_train_and_predict(tmp_path: Path, capsys) -> None:
    images, labels = make_folders(tmp_path)
    words = ["--dataset", f"volumes:{images},{labels}", *QUICK, "--epochs", "1"]
    words += ["--patch-size", "8", "16", "16"]
    assert train(tmp_path / "run", tmp_path / "data", *words) == 0
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["config"]["patch_size"] == [8, 16, 16]  # instead of the plan's
    assert "image per case" in capsys.readouterr().out
    words = ["predict", tmp_path / "run", images, "--output", tmp_path / "out"]
    assert type_in(*words) == 0
    for file in sorted(labels.iterdir()):
        check_label_map(tmp_path / "out" / file.name, file)


def test_changed_files_are_not_the_dataset_of_the_run(root: Path, whole: Path, capsys) -> None:
    json_path = root / "nnunet" / "dataset.json"
    before = json_path.read_text()
    json_path.write_text(before.replace("lesion", "tumor"))
    try:
        assert train(whole, root / "data", "--resume", "--epochs", "3") == 2
    finally:
        json_path.write_text(before)
    assert "was started with other settings: the images, labels or split" in capsys.readouterr().err


def test_each_model_of_an_ensemble_normalizes_by_its_own_statistics(whole: Path) -> None:
    """The folds of a cross-validation have other training cases, and other statistics of CT."""
    first = load_segmenter(whole)
    statistics = {"low": -50.0, "high": 90.0, "mean": 10.0, "std": 60.0}
    normalization = VolumeNormalization.of([statistics, None])
    members = first, dataclasses.replace(first, normalization=normalization)
    volume = np.random.default_rng(0).normal(50, 60, (10, 20, 18, 2)).astype(np.float32)
    single = [member.calibrated_probabilities(volume[None])[0] for member in members]
    assert np.abs(single[0] - single[1]).max() > 1e-3
    found = SegmenterEnsemble(members, VIEWS["none"]).probabilities(volume)
    np.testing.assert_allclose(found, np.mean(single, axis=0), atol=1e-6)


def test_runs_on_other_voxels_are_not_averaged(root: Path, whole: Path, tmp_path, capsys) -> None:
    other = shutil.copytree(whole, tmp_path / "other")
    record = json.loads((other / "config.json").read_text())
    record["dataset"]["spacing"] = [5.0, 1.0, 1.0]
    (other / "config.json").write_text(json.dumps(record))
    words = ["predict", whole, root / "nnunet" / "imagesTs", "--ensemble", other]
    assert type_in(*words, "--output", tmp_path / "out") == 2
    assert "The voxel size of the run" in capsys.readouterr().err


def test_what_cannot_be_predicted_is_one_sentence(
    root: Path, whole: Path, tmp_path: Path, capsys
) -> None:
    images = shutil.copytree(root / "nnunet" / "imagesTs", tmp_path / "images")
    (images / "scan-00_0001.nii.gz").unlink()
    assert type_in("predict", whole, images, "--output", tmp_path / "out") == 2
    captured = capsys.readouterr()
    assert captured.out.startswith("1 of 2 cases segmented")
    (line,) = captured.err.splitlines()
    assert "scan-00 (" in line and "has no scan-00_0001.nii.gz" in line
    labels = root / "nnunet" / "labelsTr"
    assert type_in("predict", whole, labels, "--output", tmp_path / "out") == 2
    assert "without the number of a modality" in capsys.readouterr().err
