"""Cases without label maps, and the way from what a model says back to the voxels of the files."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from data.inputs.volume_files import find_inference_cases, read_inference_volume, skipped_lines
from data.prepared.prepare_volumes import prepare_case
from data.volume_spec import volume_spec
from lmf_jax.errors import UserError
from tests.helpers.volume_downloads import make_brats20, make_kits19, stored


def one_hot(labels: np.ndarray, num_classes: int) -> np.ndarray:
    return np.eye(num_classes, dtype=np.float32)[labels]


def test_what_was_resampled_and_turned_comes_back_to_its_place(tmp_path: Path) -> None:
    """Voxels of a quarter of the size, stored from head to feet: all but their edges agree."""
    spec = volume_spec("kits19")
    make_kits19(tmp_path / "raw", 1, shape=(24, 80, 72), spacing=(1.61, 0.4, 0.41))
    (case,) = find_inference_cases(spec, tmp_path / "raw")
    truth = prepare_case(spec, case)
    volume = read_inference_volume(spec, case)
    np.testing.assert_array_equal(volume.image, truth.image)
    volume.save_labels(one_hot(truth.labels, 3), tmp_path / "out.nii.gz")

    segmentation = case.labels_path()
    found, expected = nibabel.load(tmp_path / "out.nii.gz"), nibabel.load(segmentation)
    assert found.shape == expected.shape
    assert found.get_data_dtype() == np.uint8
    np.testing.assert_allclose(found.get_sform(), expected.affine, atol=1e-4)
    np.testing.assert_allclose(found.get_qform(), expected.affine, atol=1e-4)
    found, expected = stored(tmp_path / "out.nii.gz"), stored(segmentation)
    for label in (1, 2):
        ours, theirs = found == label, expected == label
        assert 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()) > 0.8
        centers = [np.argwhere(where).mean(0) for where in (ours, theirs)]
        np.testing.assert_allclose(*centers, atol=0.5)


def test_what_was_cut_off_is_background_and_labels_are_those_of_the_dataset(tmp_path: Path) -> None:
    spec = volume_spec("brats20")
    make_brats20(tmp_path / "raw", 1)
    (case,) = find_inference_cases(spec, tmp_path / "raw")
    volume = read_inference_volume(spec, case)
    truth = prepare_case(spec, case)
    assert volume.image.shape == truth.image.shape != volume.file.oriented_shape
    volume.save_labels(one_hot(truth.labels, 4), tmp_path / "out.nii.gz")
    labels = stored(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(labels, stored(case.labels_path()))
    assert set(np.unique(labels)) == {0, 1, 2, 4}


def test_a_case_alone_and_cases_in_a_folder_need_no_label_map(tmp_path: Path) -> None:
    spec = volume_spec("kits19")
    make_kits19(tmp_path / "raw", 2)
    for file in (tmp_path / "raw").glob("*/segmentation.nii.gz"):
        file.unlink()
    (tmp_path / "raw" / "empty").mkdir()
    assert [case.id for case in find_inference_cases(spec, tmp_path / "raw")] == [
        "case_00000",
        "case_00001",
    ]
    (alone,) = find_inference_cases(spec, tmp_path / "raw" / "case_00001")
    assert alone.id == "case_00001"


def test_what_is_no_case_is_named(tmp_path: Path) -> None:
    spec, raw = volume_spec("kits19"), make_kits19(tmp_path / "raw", 2)
    for name in ("empty", "out"):
        (raw / name).mkdir()
    (raw / "scan.nii.gz").write_bytes(b"")
    lines = skipped_lines(raw, find_inference_cases(spec, raw), raw / "out")
    assert [line.replace(str(raw), "F") for line in lines] == [
        "1 .nii.gz file in F is not used: scan.nii.gz; a case is a folder with its files",
        "1 folder in F is not used: empty; a case has the files imaging, segmentation",
    ]
    alone = raw / "case_00000"
    assert skipped_lines(alone, find_inference_cases(spec, alone), raw / "out") == []
    (raw / "scan.nii.gz").rename(raw / "imaging.nii.gz")
    (line,) = skipped_lines(raw, find_inference_cases(spec, raw), raw / "out")
    assert line.startswith(f"3 folders in {raw} are not used: case_00000, case_00001, empty; ")


@pytest.mark.parametrize("there", [True, False], ids=["an empty folder", "nothing"])
def test_no_case_is_said_with_what_is_expected(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "there" if there else tmp_path / "not there"
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match=r"has no case; .* CASE with CASE_t1.nii.gz, CASE_t1ce"):
        find_inference_cases(volume_spec("brats20"), folder)
