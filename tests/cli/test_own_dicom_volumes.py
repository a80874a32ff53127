"""``train.py --dataset volumes:...`` on DICOM series and enhanced files, up to masks in NIfTI."""

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from data import load_volumes
from data.formats.nifti import open_nifti
from lmf_jax.inference import segmenter
from lmf_jax.training import segmentation
from tests.cli.test_own_volumes import QUICK
from tests.cli.test_segment import lines_of, results_of, train, type_in
from tests.helpers.dicom_files import SENTINEL
from tests.helpers.dicom_series import make_dicom_nnunet
from tests.helpers.hidden_text import texts_in, texts_in_bytes
from tests.helpers.tiny_training import stop_after, tiny_models, tiny_unet
from tests.helpers.volume_downloads import make_nnunet

tiny = tiny_models(tiny_unet, segmentation, segmenter)
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_pictures")]

NUM_CASES, NUM_PATIENTS = 14, 11


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """Return a folder with series and enhanced files in nnU-Net's layout."""
    return make_dicom_nnunet(tmp_path_factory.mktemp("own") / "raw", NUM_CASES, NUM_PATIENTS)


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    """Return the folder of all that the commands write."""
    return tmp_path_factory.mktemp("output")


@pytest.fixture(scope="module")
def run(raw: Path, output: Path) -> Path:
    """Return a run that was never stopped."""
    assert train(output / "run", output / "data", "--dataset", f"volumes:{raw}", *QUICK) == 0
    return output / "run"


def check_mask(path: Path, labels: Path) -> None:
    """Check that a mask has the grid of the label map, which is that of the series."""
    predicted, expected = open_nifti(path), open_nifti(labels)
    assert predicted.oriented_shape == expected.oriented_shape
    np.testing.assert_allclose(predicted.affine, expected.affine, atol=1e-4)
    predicted.read_labels((0, 1, 7))
    assert nibabel.aff2axcodes(nibabel.load(path).affine) == ("L", "P", "S")  # as the series


def test_series_train_resume_and_predict_in_their_geometry(
    raw: Path, run: Path, output: Path, monkeypatch, capfd
) -> None:
    stopped, dataset = output / "stopped", ("--dataset", f"volumes:{raw}", *QUICK)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)  # in the middle of the second epoch
        assert train(stopped, output / "data", *dataset) == 143
    assert train(stopped, output / "data", "--resume") == 0
    assert lines_of(stopped) == lines_of(run)
    assert results_of(stopped) == results_of(run)

    images = raw / "imagesTr"
    assert type_in("predict", run, images, "--output", output / "all") == 0
    names = [f"scan-{number:02d}.nii.gz" for number in range(NUM_CASES)]
    assert sorted(path.name for path in (output / "all").iterdir()) == names
    for name in names:
        check_mask(output / "all" / name, raw / "labelsTr" / name)
    for case, image in (("scan-00", "scan-00_0000"), ("scan-02", "scan-02_0000.dcm")):
        assert type_in("predict", run, images / image, "--output", output / case) == 0
        (mask,) = (output / case).iterdir()
        assert mask.name == f"{case}.nii.gz"
        assert mask.read_bytes() == (output / "all" / mask.name).read_bytes()
    assert type_in("card", run) == 0
    card = (run / "card" / "model_card.md").read_text()
    assert "no patient is in two parts (split grouped)" in card
    printed = capfd.readouterr()
    assert "14 cases of 11 patients, which were found by Patient ID and hashed" in printed.out
    for text in printed:
        assert not texts_in_bytes(text.encode(), [SENTINEL])
    assert texts_in(output, [SENTINEL]) == []


def test_patients_stay_in_one_part(raw: Path, run: Path, output: Path) -> None:
    dataset = load_volumes(f"volumes:{raw}", data_dir=output / "data")
    assert json.loads((run / "config.json").read_text())["config"]["split"] == "grouped"
    assert len(set(dataset.groups.tolist())) == NUM_PATIENTS
    assert all(dataset.groups[n] == dataset.groups[n + NUM_PATIENTS] for n in range(3))
    parts = [set(dataset.groups_of(part).tolist()) for part in dataset.rows]
    assert sum(map(len, parts)) == len(set.union(*parts)) == NUM_PATIENTS
    by_case = load_volumes(f"volumes:{raw}", data_dir=output / "data", split="paper")
    assert by_case.fingerprint != dataset.fingerprint


def test_series_are_prepared_as_the_same_nifti_files(raw: Path, run: Path, output: Path) -> None:
    nifti = make_nnunet(output.with_name("nifti"), NUM_CASES)
    first = load_volumes(f"volumes:{raw}", data_dir=output / "data")
    second = load_volumes(f"volumes:{nifti}", data_dir=output.with_name("nifti-data"))
    assert first.ids.tolist() == second.ids.tolist()
    for row in range(NUM_CASES):
        own, other = first.read(row), second.read(row)
        np.testing.assert_allclose(own.image, other.image, atol=0.13)  # the step of the slope
        np.testing.assert_array_equal(own.labels, other.labels)
    assert second.groups.tolist() == second.ids.tolist()


def test_a_changed_slice_is_another_dataset(raw: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(raw, tmp_path / "raw")
    before = load_volumes(f"volumes:{copied}", data_dir=tmp_path).fingerprint
    file = copied / "imagesTr" / "scan-00_0000" / "IM0003"
    content = bytearray(file.read_bytes())
    content[-2:] = b"\x00\x20"
    file.write_bytes(content)
    assert load_volumes(f"volumes:{copied}", data_dir=tmp_path).fingerprint != before


def test_broken_cases_are_named_and_no_patient(
    raw: Path, run: Path, tmp_path: Path, capfd, monkeypatch
) -> None:
    copied = shutil.copytree(raw, tmp_path / "raw")
    images = copied / "imagesTr"
    (images / "scan-00_0000" / "IM0003").unlink()
    shutil.copy(images / "scan-03_0000" / "IM0000", images / "scan-01_0000" / "IM9999")
    (images / "scan-02_0000.dcm").write_bytes(b"not DICOM")
    shutil.copy(copied / "labelsTr" / "scan-01.nii.gz", copied / "labelsTr" / "scan-03.nii.gz")
    assert type_in("predict", run, images, "--output", tmp_path / "out") == 2
    captured = capfd.readouterr()
    assert "11 of 14 cases segmented" in captured.out
    assert train(tmp_path / "run", tmp_path / "data", "--dataset", f"volumes:{copied}") == 2
    refused = capfd.readouterr()
    for reason in ("gaps of 3 to 6 mm", "has files of 2 series", "its DICOM header is damaged"):
        assert reason in captured.err and reason in refused.err
    assert "4 of 14 cases" in refused.err and "expected the same grid" in refused.err
    assert not texts_in_bytes(refused.err.encode() + captured.err.encode(), [SENTINEL])
