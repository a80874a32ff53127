"""The user's volumes are examined, planned and prepared, or refused by the name of the case."""

import json
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from data import load_volumes, patch_batches
from data.inputs.volume_files import find_inference_cases, read_inference_volume, spec_of_run
from data.prepared.own_volumes import prepare_own_volumes
from lmf_jax.errors import UserError
from tests.data.prepared.test_prepare_volumes import type_in
from tests.helpers.volume_downloads import make_folders, make_nnunet, save_nifti, stored

SPACING = (3.0, 1.5, 1.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Return a folder with CT and T2 in nnU-Net's layout, which no test changes."""
    return make_nnunet(tmp_path_factory.mktemp("own") / "made", 6, modalities=("CT", "T2"))


@pytest.fixture
def raw(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "raw")


def name_of(raw: Path) -> str:
    return f"volumes:{raw}"


def test_a_ct_is_kept_and_another_modality_normalized_per_case(made: Path, tmp_path: Path) -> None:
    dataset = load_volumes(name_of(made), data_dir=tmp_path)
    assert dataset.ids.tolist() == [f"scan-{n:02d}" for n in range(6)]
    assert dataset.groups.tolist() == dataset.ids.tolist()
    assert dataset.spacing == (3.0, 1.5, 1.05)
    assert dataset.class_names == ("background", "organ", "lesion")
    row = 0
    folder = made / "imagesTr"
    ct = stored(folder / f"scan-{row:02d}_0000.nii.gz")
    volume = dataset.read(row)
    assert volume.image.shape[:3] == (*ct.shape[:2], round(ct.shape[2] / 1.05))
    assert volume.image[..., 0].min() >= ct.min() and volume.image[..., 0].max() <= ct.max()
    assert volume.image[..., 0].mean() == pytest.approx(ct.mean(), abs=3)
    assert volume.image[..., 1].mean() == pytest.approx(0, abs=0.05)
    assert volume.image[..., 1].std() == pytest.approx(1, abs=0.1)
    assert np.unique(volume.labels).tolist() == [0, 1, 2]  # of the labels 0, 1 and 7
    lowest = min(stored(path).min() for path in folder.glob("*_0000.nii.gz"))
    assert dataset.padding == pytest.approx((lowest, 0.0))
    size = (16, 32, 32)
    batch = next(patch_batches(dataset, np.array([row]), patch_size=size, batch_size=1, seed=0))
    assert batch["image"][0, 0, 0, 0].tolist() == pytest.approx([lowest, 0.0])


def test_the_statistics_of_a_ct_are_those_of_the_training_cases(made: Path, tmp_path: Path) -> None:
    found = []
    for seed in (0, 1):
        dataset = load_volumes(name_of(made), data_dir=tmp_path, split_seed=seed)
        values = []
        for case in dataset.ids[dataset.rows["train"]].tolist():
            foreground = stored(made / "labelsTr" / f"{case}.nii.gz") > 0
            values.append(stored(made / "imagesTr" / f"{case}_0000.nii.gz")[foreground])
        ct, t2 = dataset.intensity
        assert ct["mean"] == pytest.approx(np.mean([v.mean() for v in values]), abs=0.1)
        low, high = np.percentile(np.concatenate(values), (0.5, 99.5))
        assert [ct["low"], ct["high"]] == pytest.approx([low, high], abs=8)
        assert t2 is None
        found.append(ct["mean"])
    assert found[0] != found[1]


def test_a_label_map_returns_to_the_files_with_the_labels_of_the_user(
    tmp_path: Path,
) -> None:
    """Of a case that is resampled, and turned in its files."""
    raw = make_nnunet(tmp_path / "raw", 6, labels={"background": 0, "organ": 1, "lesion": 700})
    for path in (raw / "labelsTr").iterdir():
        labels = stored(path).astype(np.int16)
        spacing = nibabel.load(path).header.get_zooms()  # as stored: along z, y, x
        save_nifti(path, np.where(labels == 7, np.int16(700), labels), spacing, "IPL")
    dataset = load_volumes(name_of(raw), data_dir=tmp_path / "data")
    spec = spec_of_run(json.loads(json.dumps(dataset.description)))
    cases = find_inference_cases(spec, raw / "imagesTr")
    assert [case.id for case in cases] == dataset.ids.tolist()
    for row in (0, 1):
        volume = read_inference_volume(spec, cases[row])
        truth = dataset.read(row)
        np.testing.assert_array_equal(volume.image, truth.image)
        volume.save_labels(np.eye(3, dtype=np.float32)[truth.labels], tmp_path / "out.nii.gz")
        found, expected = tmp_path / "out.nii.gz", raw / "labelsTr" / f"{cases[row].id}.nii.gz"
        np.testing.assert_allclose(
            nibabel.load(found).affine, nibabel.load(expected).affine, atol=1e-4
        )
        assert nibabel.load(found).get_data_dtype() == np.uint16
        found, expected = stored(found), stored(expected)
        assert set(np.unique(found)) == {0, 1, 700}
        for label in (1, 700):
            ours, theirs = found == label, expected == label
            assert 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()) > 0.8


def test_borders_of_zero_are_cropped_and_left_out_of_the_statistics(tmp_path: Path) -> None:
    images, labels = make_folders(tmp_path)
    for path in images.iterdir():
        image = stored(path)
        body = np.zeros(image.shape, bool)
        body[:, 4:-4, 4:-4] = True
        save_nifti(path, np.where(body, image + 500, 0).astype(np.float32), SPACING)
        of_case = labels / path.name
        save_nifti(of_case, np.where(body, stored(of_case), 0).astype(np.uint8), SPACING)
    dataset = load_volumes(f"volumes:{images},{labels}", data_dir=tmp_path / "data")
    assert dataset.prepared.spec.crop and dataset.padding == 0.0
    volume = dataset.read(0)
    assert volume.image.shape == (10, 14, 12, 1)
    assert volume.image.mean() == pytest.approx(0, abs=1e-5)
    assert volume.image.std() == pytest.approx(1, abs=1e-5)
    assert dataset.intensity is None
    (note, *_) = dataset.notes
    assert note.endswith("image per case; voxels of 0 around the body cropped")


def test_preparing_again_opens_what_is_there(made: Path, tmp_path: Path, monkeypatch) -> None:
    first = prepare_own_volumes(name_of(made), tmp_path)
    monkeypatch.setattr("data.prepared.own_volumes.make_plan", None)  # is not chosen again
    assert prepare_own_volumes(name_of(made), tmp_path).fingerprint == first.fingerprint
    assert load_volumes(name_of(made), data_dir=tmp_path).content_fingerprint == first.fingerprint


@pytest.mark.parametrize("file", ["plan.json", "foreground.npz"])
def test_a_changed_plan_is_not_used(file: str, made: Path, tmp_path: Path) -> None:
    folder = prepare_own_volumes(name_of(made), tmp_path).folder
    content = (folder / file).read_bytes()
    at = content.index(b"1.5") if file == "plan.json" else 5000
    changed = content[:at] + bytes([content[at] ^ 3]) + content[at + 1 :]
    (folder / file).write_bytes(changed)
    if file == "plan.json":  # the set is no longer complete, and is prepared again
        assert load_volumes(name_of(made), data_dir=tmp_path).spacing == (3.0, 1.5, 1.05)
        assert (folder / file).read_bytes() == content
    else:
        with pytest.raises(UserError, match=r"foreground.npz"):
            load_volumes(name_of(made), data_dir=tmp_path)


def image(raw: Path, channel: int = 0) -> Path:
    return raw / "imagesTr" / f"scan-02_{channel:04d}.nii.gz"


def labels(raw: Path) -> Path:
    return raw / "labelsTr" / "scan-02.nii.gz"


def rewrite(path: Path, change, **header: object) -> None:
    """Write a file again with changed values and header fields."""
    loaded = nibabel.load(path)
    new = nibabel.Nifti1Image(change(np.asanyarray(loaded.dataobj).copy()), loaded.affine)
    for key, value in header.items():
        new.header[key] = value
    path.write_bytes(b"")
    nibabel.save(new, path)


def set_spacing(path: Path, edge: float) -> None:
    """Set the spacing along the first axis in both transformations of the header."""
    content = bytearray(nibabel.load(path).to_bytes())
    header = nibabel.Nifti1Header(bytes(content[:348]), check=False)
    header["pixdim"][1] = edge
    header["srow_x"] = (edge, 0, 0, 0)
    header["srow_y"] = (0, 1.5, 0, 0)
    header["srow_z"] = (0, 0, 1, 0)
    content[:348] = header.binaryblock
    path.with_suffix("").write_bytes(bytes(content))
    path.unlink()


def with_nan(values: np.ndarray) -> np.ndarray:
    values[0, 0, 0] = np.nan
    return values


def with_label(values: np.ndarray) -> np.ndarray:
    values[0, 0, 0] = 3
    return values


BREAK = {
    "no modality": (lambda raw: image(raw, 1).unlink(), "has no scan-02_0001.nii.gz or"),
    "no label map": (lambda raw: labels(raw).unlink(), "has no scan-02.nii.gz or"),
    "truncated": (
        lambda raw: image(raw).write_bytes(image(raw).read_bytes()[:400]),
        "is damaged or not a NIfTI file",
    ),
    "empty": (lambda raw: image(raw).write_bytes(b""), "is damaged or not a NIfTI file"),
    "2-D": (lambda raw: rewrite(image(raw), lambda v: v[0]), "expected one volume of three dim"),
    "4-D": (
        lambda raw: rewrite(image(raw), lambda v: np.stack([v, v], -1)),
        r"has \d+ x \d+ x \d+ x 2 values; expected one volume of three dimensions",
    ),
    "not finite": (lambda raw: rewrite(image(raw), with_nan), "has a value that is not finite"),
    "constant": (lambda raw: rewrite(image(raw), np.zeros_like), "has the single value 0; expect"),
    "another label": (
        lambda raw: rewrite(labels(raw), with_label),
        "the label 3; expected 0, 1",
    ),
    "another shape": (lambda raw: rewrite(labels(raw), lambda v: v[:-1]), "expected the same grid"),
    "another modality": (lambda raw: rewrite(image(raw, 1), lambda v: v[:-1]), "the same grid"),
    "spacing zero": (lambda raw: set_spacing(image(raw), 0.0), "claims voxels of .* mm; expected"),
    "spacing negative": (lambda raw: set_spacing(image(raw), -9.0), "expected the same grid"),
    "spacing NaN": (lambda raw: set_spacing(image(raw), np.nan), "claims voxels of .* mm; expec"),
    "spacing of another": (lambda raw: set_spacing(image(raw), 1.0), "expected the same grid"),
}


@pytest.mark.parametrize(("damage", "reason"), BREAK.values(), ids=BREAK.keys())
def test_a_broken_case_is_named_in_one_sentence(
    damage, reason: str, raw: Path, tmp_path: Path
) -> None:
    damage(raw)
    command = f"python -m data prepare volumes:{raw} --data-dir {tmp_path / 'data'} --skip-broken"
    message = rf"^1 of 6 cases in {raw} cannot be used \(scan-02: .*{reason}.*\); repair them, or "
    message += rf"leave them out with {re.escape(command)}$"
    with pytest.raises(UserError, match=message):
        load_volumes(name_of(raw), data_dir=tmp_path / "data")


def test_broken_cases_can_be_left_out(raw: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """Whether they are found when they are examined, or when they are prepared."""
    rewrite(labels(raw), with_label)
    rewrite(raw / "imagesTr" / "scan-04_0001.nii.gz", np.zeros_like)
    words = ["prepare", name_of(raw), "--data-dir", tmp_path / "data"]
    type_in(monkeypatch, *words, "--skip-broken")
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"organ +\d+ voxels in 4 of 4 cases", lines[1])
    assert lines[3].startswith("2 cases left out: ")
    assert lines[4].startswith("planned from 5 cases: voxels of 3 x 1.5 x")
    dataset = load_volumes(name_of(raw), data_dir=tmp_path / "data")
    assert dataset.ids.tolist() == ["scan-00", "scan-01", "scan-03", "scan-05"]
    assert dataset.intensity[0]["mean"] > 0
    type_in(monkeypatch, *words)
    assert capsys.readouterr().out.splitlines()[-1].startswith("it was already prepared; ")


def refused(name: str, tmp_path: Path, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        load_volumes(name, data_dir=tmp_path / "data")
    assert "\n" not in str(raised.value)


def test_labels_without_names_are_those_of_the_files(tmp_path: Path) -> None:
    images, label_maps = make_folders(tmp_path)
    name = f"volumes:{images},{label_maps}"
    dataset = load_volumes(name, data_dir=tmp_path / "data")
    assert dataset.class_names == ("background", "label 1", "label 7")
    rewrite(label_maps / "p1.nii.gz", lambda v: v / 2)
    refused(name, tmp_path, r"p1.nii.gz has the label 0.5; expected whole numbers from 0 to 65535")
    rewrite(label_maps / "p1.nii.gz", lambda v: np.arange(v.size, dtype=np.int32).reshape(v.shape))
    refused(name, tmp_path, r"p1.nii.gz has more than 32 labels; expected a label map, not an im")
    for path in label_maps.iterdir():
        rewrite(path, lambda v: np.zeros(v.shape, np.uint8))
    refused(name, tmp_path, r"hold 1 labels \(0\); expected 2 to 32 with 0 for the background")


def test_few_cases_are_prepared_but_not_split(tmp_path: Path) -> None:
    raw = make_nnunet(tmp_path / "raw", 1)
    assert len(prepare_own_volumes(name_of(raw), tmp_path / "data").ids) == 1
    refused(name_of(raw), tmp_path, "No case is in the validation part .*; prepare four cases or m")


def test_a_label_that_no_case_has_is_refused(tmp_path: Path) -> None:
    raw = make_nnunet(tmp_path / "raw", 4, labels={"background": 0, "organ": 1, "a": 7, "b": 9})
    refused(name_of(raw), tmp_path, "No voxel of the class b is trained on by --split paper")


def test_names_of_volumes_are_checked(tmp_path: Path, monkeypatch, capsys) -> None:
    refused("volumes", tmp_path, r"no dataset of volumes named 'volumes'; .* volumes:DIR")
    refused(f"volumes:{tmp_path / 'none'}", tmp_path, "names no existing folder; expected vol")
    refused(f"volumes:{tmp_path},", tmp_path, "names no existing folder")
    with pytest.raises(SystemExit):
        type_in(monkeypatch, "prepare", f"volumes:{tmp_path}", "--raw-dir", tmp_path)
    assert "takes no --raw-dir; leave it out" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        type_in(monkeypatch, "audit", f"volumes:{tmp_path}")
    assert "which only --task segmentation reads" in capsys.readouterr().err
