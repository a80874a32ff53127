"""The files of a download become prepared volumes, or are refused by name."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

import data.prepared.prepare_volumes
from data import load_volumes
from data.prepared.case_file import Volume
from data.prepared.prepare_volumes import prepare_volumes, resample
from lmf_jax.errors import UserError
from tests.helpers.volume_downloads import ball, make_brats20, make_kits19, save_nifti, stored


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return make_kits19(tmp_path / "raw", 5, shape=(6, 9, 8))


def test_a_ct_is_clipped_normalized_and_resampled(volume_downloads, volumes_dir: Path) -> None:
    dataset = load_volumes("kits19", data_dir=volumes_dir)
    raw = volume_downloads["kits19"] / "case_00003"
    normalized = (np.clip(stored(raw / "imaging.nii.gz"), -79, 304) - 101) / 76.9
    expected = resample(normalized.astype(np.float32), (2.3, 0.9, 0.9), (3.22, 1.62, 1.62), order=1)
    volume = dataset.read(3)
    assert volume.image.shape == (*volume.labels.shape, 1) == (9, 11, 10, 1)
    assert volume.image.dtype == np.float32 and volume.labels.dtype == np.uint8
    np.testing.assert_allclose(volume.image[..., 0], expected, atol=1e-5)
    assert volume.image.min() >= dataset.padding - 1e-6
    assert dataset.padding == pytest.approx((-79 - 101) / 76.9)


def test_an_mri_is_cut_to_the_brain_and_normalized_within_it(
    volume_downloads, volumes_dir: Path
) -> None:
    dataset = load_volumes("brats20", data_dir=volumes_dir)
    folder = volume_downloads["brats20"] / "BraTS20_Training_004"
    volume = dataset.read(3)
    for number, modality in enumerate(("t1", "t1ce", "t2", "flair")):
        raw = stored(folder / f"{folder.name}_{modality}.nii").astype(float)
        brain = raw != 0
        box = np.ix_(*(np.unique(axis) for axis in np.nonzero(brain)))
        expected = np.where(brain, (raw - raw[brain].mean()) / raw[brain].std(), 0)[box]
        np.testing.assert_allclose(volume.image[..., number], expected, atol=1e-5)
        assert np.all(volume.image[..., number][~brain[box]] == 0)
    labels = stored(folder / f"{folder.name}_seg.nii")[box]
    assert set(np.unique(labels)) == {0, 1, 2, 4}
    np.testing.assert_array_equal(volume.labels, np.where(labels == 4, 3, labels))


def test_what_is_labeled_outside_of_the_brain_is_kept(tmp_path: Path) -> None:
    raw = make_brats20(tmp_path / "raw", 1)
    path = next(raw.glob("*/*_seg.nii"))
    labels = stored(path)
    labels[0, 0, 0] = 2
    save_nifti(path, labels, orientation="LPS")
    prepared = prepare_volumes("brats20", raw, tmp_path)
    assert prepared.shapes.tolist() == [[17, 18, 16]]
    assert prepared.voxel_counts[0, 2] == np.sum(labels == 2)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("target", [(3.22, 1.62, 1.62), (1.0, 1.0, 1.0), (2.0, 5.0, 0.7)])
def test_resampling_keeps_place_and_size(order: int, target) -> None:
    shape, spacing, center, radius = (24, 60, 50), (2.5, 0.8, 0.9), (11, 31.3, 22.6), 14.0
    there = ball(shape, center, radius, spacing).astype(np.float32)
    new = resample(there, spacing, target, order=order)
    assert new.dtype == np.float32
    middle = (np.array(shape) - 1) / 2
    expected = (np.array(center) - middle) * spacing
    places = np.argwhere(np.ones(new.shape)) - (np.array(new.shape) - 1) / 2
    found = (places * target * new.reshape(-1, 1)).sum(0) / new.sum()
    np.testing.assert_allclose(found, expected, atol=0.1 * max(*target, *spacing))
    volume = new.sum() * np.prod(target)
    assert volume == pytest.approx(there.sum() * np.prod(spacing), rel=0.04)
    np.testing.assert_array_less(
        np.abs(np.multiply(new.shape, target) - np.multiply(shape, spacing)),
        np.array(target) / 2 + 1e-6,
    )


def test_image_and_labels_stay_aligned() -> None:
    """A border between two voxels of the image is one of the labels too, whatever the size."""
    for edge in (0.4, 0.9, 1.3, 2.1):
        step = np.zeros((30, 31, 32), np.float32)
        step[:, 14:, :] = 1
        image = resample(step, (1.0,) * 3, (edge,) * 3, order=1)
        labels = resample(step.astype(np.uint8), (1.0,) * 3, (edge,) * 3, order=0)
        assert labels.dtype == np.uint8
        sure = np.abs(image - 0.5) > 1e-3
        np.testing.assert_array_equal(labels[sure], image[sure] > 0.5)


def test_an_image_that_is_linear_stays_so() -> None:
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32)[:, None, None] * 2.0, (40, 3, 3))
    new = resample(np.array(ramp), (2.0, 1.0, 1.0), (3.22, 1.0, 1.0), order=1)
    places = 39 + (np.arange(len(new)) - (len(new) - 1) / 2) * 3.22
    np.testing.assert_allclose(new[:, 1, 1], places, atol=1e-4)


def test_a_turned_download_is_the_same_dataset(tmp_path: Path) -> None:
    first = make_kits19(tmp_path / "a", 2, spacing=(2.0, 1.0, 1.5))
    second = make_kits19(tmp_path / "b", 2, spacing=(2.0, 1.0, 1.5))
    for path in second.glob("*/imaging.nii.gz"):
        save_nifti(path, stored(path), (2.0, 1.0, 1.5), "PRS")
    fingerprints = {
        prepare_volumes("kits19", raw, tmp_path / raw.name / "data").fingerprint
        for raw in (first, second)
    }
    assert len(fingerprints) == 1


def imaging(raw: Path, number: int) -> Path:
    return raw / f"case_{number:05d}" / "imaging.nii.gz"


def labels(raw: Path, number: int) -> Path:
    return raw / f"case_{number:05d}" / "segmentation.nii.gz"


def shift(path: Path) -> None:
    image = nibabel.load(path)
    image.affine[2, 3] += 20
    nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine).to_filename(path)


def claim(path: Path, *edges: float) -> None:
    image = nibabel.load(path)
    nibabel.Nifti1Image(np.asarray(image.dataobj), np.diag([*edges, 1])).to_filename(path)


BREAK = {
    "no image": (lambda raw: imaging(raw, 3).unlink(), r"has no imaging\.nii\.gz or imaging\.nii"),
    "no labels": (lambda raw: labels(raw, 3).unlink(), r"has no segmentation\.nii\.gz or"),
    "cut": (
        lambda raw: imaging(raw, 3).write_bytes(imaging(raw, 3).read_bytes()[:500]),
        r"imaging\.nii\.gz is damaged or not a NIfTI file",
    ),
    "elsewhere": (
        lambda raw: shift(labels(raw, 3)),
        r"segmentation\.nii\.gz is up to 20 mm from",
    ),
    "another grid": (
        lambda raw: save_nifti(labels(raw, 3), np.zeros((7, 9, 8), np.uint8)),
        "has 7 x 9 x 8 voxels and imaging.nii.gz 6 x 9 x 8",
    ),
    "another label": (
        lambda raw: save_nifti(
            labels(raw, 3), np.full((6, 9, 8), 3, np.uint8), (3.22, 1.62, 1.62), "IPL"
        ),
        r"has the label 3; expected 0, 1, 2",
    ),
    "one value": (
        lambda raw: save_nifti(
            imaging(raw, 3), np.full((6, 9, 8), -1000, np.int16), (3.22, 1.62, 1.62), "IPL"
        ),
        r"has the single value -2\.34\d+; expected an image",
    ),
}


@pytest.mark.parametrize(("damage", "reason"), BREAK.values(), ids=BREAK.keys())
def test_a_broken_case_is_named(damage, reason: str, raw: Path, tmp_path: Path) -> None:
    damage(raw)
    command = f"python -m data prepare kits19 --raw-dir {raw} --data-dir {tmp_path / 'data'}"
    message = (
        rf"^1 of 5 cases in {raw} cannot be used \(case_00003: .*{reason}.*\); repair them, or "
    )
    message += rf"leave them out with {re.escape(command)} --skip-broken$"
    with pytest.raises(UserError, match=message):
        prepare_volumes("kits19", raw, tmp_path / "data")
    with pytest.raises(UserError, match="kits19 is not prepared"):
        load_volumes("kits19", data_dir=tmp_path / "data")


def test_a_volume_that_would_grow_without_bounds_is_refused(
    raw: Path, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(data.prepared.prepare_volumes, "LARGEST_VOLUME", 1000)
    for path in (imaging(raw, 3), labels(raw, 3)):
        claim(path, 20, 20, 20)
    message = r"imaging\.nii\.gz would become \d+ x \d+ x \d+ voxels; expected at most 1000 in all"
    with pytest.raises(UserError, match=message):
        prepare_volumes("kits19", raw, tmp_path / "data")


def test_of_many_broken_cases_five_are_named(tmp_path: Path) -> None:
    raw = make_kits19(tmp_path / "raw", 7, shape=(4, 5, 5))
    for path in list(raw.glob("*/imaging.nii.gz"))[:6]:
        path.unlink()
    with pytest.raises(UserError, match=r"^6 of 7 cases (.*has no imaging.*;){5} \.\.\.\); repair"):
        prepare_volumes("kits19", raw, tmp_path / "data")
    next(raw.glob("*/imaging.nii.gz")).unlink()
    with pytest.raises(UserError, match=r"^7 of 7 cases .*; nothing is left to prepare\."):
        prepare_volumes("kits19", raw, tmp_path / "data", skip_broken=True)


def test_a_folder_without_cases_is_refused(tmp_path: Path) -> None:
    for name, example in (("kits19", "case_00000/"), ("brats20", "BraTS20_Training_001/")):
        with pytest.raises(UserError, match=f"has no case; expected folders such as {example}"):
            prepare_volumes(name, tmp_path, tmp_path / "data")
    with pytest.raises(UserError, match="cannot be listed"):
        prepare_volumes("kits19", tmp_path / "nowhere", tmp_path / "data")


def test_the_misnamed_label_map_of_brats_is_found(tmp_path: Path) -> None:
    raw = make_brats20(tmp_path / "raw", 1)
    path = next(raw.glob("*/*_seg.nii"))
    path.rename(path.with_name("W39_1998.09.19_Segm.nii"))
    assert prepare_volumes("brats20", raw, tmp_path).voxel_counts[0, 3] > 0


def test_test_cases_of_kits_without_labels_are_left_out(raw: Path, tmp_path: Path) -> None:
    (raw / "case_00004").rename(raw / "case_00210")
    labels(raw, 210).unlink()
    prepared = prepare_volumes("kits19", raw, tmp_path / "data")
    assert prepared.ids.tolist() == [f"case_{number:05d}" for number in range(4)]


def type_in(monkeypatch, *words) -> None:
    monkeypatch.setattr(sys, "argv", ["data", *map(str, words)])
    runpy.run_module("data", run_name="__main__")


def test_the_command_says_what_there_is(raw: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    imaging(raw, 2).unlink()
    words = ["prepare", "kits19", "--raw-dir", raw, "--data-dir", tmp_path / "data"]
    type_in(monkeypatch, *words, "--skip-broken")
    lines = capsys.readouterr().out.splitlines()
    counts = [np.bincount(stored(labels(raw, n)).ravel(), minlength=3) for n in (0, 1, 3, 4)]
    voxels = [str(count) for count in np.sum(counts, axis=0)]
    assert re.fullmatch(rf"background +{voxels[0]} voxels in 4 of 4 cases", lines[0])
    assert [line.split()[:2] for line in lines[1:3]] == [
        ["kidney", voxels[1]],
        ["tumour", voxels[2]],
    ]
    folder = tmp_path / "data" / "kits19" / "1.0.0"
    assert lines[3:] == [f"1 cases left out: {folder}/skipped.txt"]
    assert (folder / "skipped.txt").read_text() == "case_00002\n"
    type_in(monkeypatch, *words)
    assert (
        f"it was already prepared; to prepare it again, remove {folder}" in capsys.readouterr().out
    )
    with pytest.raises(SystemExit):
        type_in(monkeypatch, "prepare", "kits19")
    assert "kits19 needs --raw-dir, the folder of the download." in capsys.readouterr().err


def counted(monkeypatch) -> list[str]:
    """Return a list that gets the name of every case that is read from then on."""
    names: list[str] = []
    read = data.prepared.prepare_volumes.prepare_case

    def read_and_tell(spec, case) -> Volume:
        names.append(case.id)
        return read(spec, case)

    monkeypatch.setattr(data.prepared.prepare_volumes, "prepare_case", read_and_tell)
    return names


def test_an_interrupted_preparation_goes_on_where_it_was(raw, tmp_path, monkeypatch) -> None:
    whole = prepare_volumes("kits19", raw, tmp_path / "whole")

    def stop(spec, case) -> Volume:
        if case.id == "case_00003":
            raise KeyboardInterrupt
        return read(spec, case)

    read = data.prepared.prepare_volumes.prepare_case
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(data.prepared.prepare_volumes, "prepare_case", stop)
        prepare_volumes("kits19", raw, tmp_path / "data")
    os.utime(imaging(raw, 1), (0, 0))  # this one has changed since
    names = counted(monkeypatch)
    assert prepare_volumes("kits19", raw, tmp_path / "data").fingerprint == whole.fingerprint
    assert names == ["case_00001", "case_00003", "case_00004"]


# Imports once, and forks for every process that is killed.
PROGRAM = """
import os, random, signal, sys
from pathlib import Path
import nibabel, scipy.ndimage
from data.prepared.volumes import open_complete, volumes_folder
from data.prepared.prepare_volumes import prepare_volumes
from tests.helpers.killed_at import KilledAt

raw, data_dir, kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
EVENTS = ("open", "os.mkdir", "os.rename", "os.remove")


def prepare_until(moment):
    KilledAt(moment, data_dir, EVENTS)
    prepare_volumes("kits19", raw, data_dir)


moments = random.Random(0)
killed = 0
while killed < kills:
    process = os.fork()
    if process == 0:
        prepare_until(moments.randint(1, 12))
        os._exit(0)
    if os.waitpid(process, 0)[1] == signal.SIGKILL:
        killed += 1
        folder = volumes_folder("kits19", data_dir)
        if (folder / "index.npz").exists():
            assert open_complete("kits19", folder) is not None
print(prepare_volumes("kits19", raw, data_dir).fingerprint)
"""


@pytest.mark.fault(
    "SIGKILL at ten random moments while volumes are prepared",
    "gone on with, they were the same, and nothing half-built was taken for whole",
)
def test_volumes_are_the_same_after_any_number_of_kills(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, tmp_path / "program.py", raw, tmp_path / "data", "10"]
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    whole = prepare_volumes("kits19", raw, tmp_path / "whole")
    assert done.stdout.strip() == whole.fingerprint
    hidden = [path.name for path in (tmp_path / "data").rglob(".*")]
    assert hidden and all(name.endswith(".lock") for name in hidden)
