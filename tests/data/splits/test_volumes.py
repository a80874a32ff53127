"""Prepared volumes are split, and read as they were written."""

import os
from pathlib import Path

import numpy as np
import pytest

from data import load_dataset, load_volumes, volume_cases
from data.prepared.case_file import MOST_POSITIONS, Volume, open_case, write_case
from data.prepared.prepare_volumes import prepare_volumes
from lmf_jax.errors import UserError
from tests.helpers.volume_downloads import make_kits19, save_nifti, stored

NUM_CASES = 8


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return make_kits19(tmp_path / "raw", 5, shape=(6, 9, 8))


def test_a_dataset_says_what_it_holds(volumes_dir: Path) -> None:
    dataset = load_volumes("brats20", data_dir=volumes_dir)
    assert dataset.class_names == ("background", "necrotic core", "edema", "enhancing tumour")
    assert dataset.modalities == ("t1", "t1ce", "t2", "flair")
    assert dataset.spacing == (1.0, 1.0, 1.0)
    assert dataset.ids.tolist() == [f"BraTS20_Training_{n:03d}" for n in range(1, NUM_CASES + 1)]
    assert {part: len(rows) for part, rows in dataset.rows.items()} == {
        "train": 6,
        "validation": 1,
        "test": 1,
    }
    assert sorted(np.concatenate(list(dataset.rows.values())).tolist()) == list(range(NUM_CASES))
    assert dataset.defaults == {"patch_size": (128, 128, 128), "batch_size": 2, "split": "paper"}
    for part, rows in dataset.rows.items():
        volumes = [dataset.read(row) for row in rows.tolist()]
        counts = sum(np.bincount(volume.labels.ravel(), minlength=4) for volume in volumes)
        assert dataset.voxel_counts(part).tolist() == counts.tolist()
        assert [list(volume.labels.shape) for volume in volumes] == dataset.shapes[rows].tolist()
        assert dataset.groups_of(part).tolist() == dataset.ids[rows].tolist()
    kits19 = load_volumes("kits19", data_dir=volumes_dir)
    assert kits19.defaults["patch_size"] == (80, 160, 160)
    assert kits19.spacing == (3.22, 1.62, 1.62)


def test_the_split_depends_on_its_seed_alone(volumes_dir: Path) -> None:
    first, again, grouped = (
        load_volumes("kits19", data_dir=volumes_dir, split=split)
        for split in (None, "paper", "grouped")
    )
    other = load_volumes("kits19", data_dir=volumes_dir, split_seed=1)
    assert first.fingerprint == again.fingerprint == grouped.fingerprint != other.fingerprint
    assert first.content_fingerprint == other.content_fingerprint
    assert first.rows["test"].tolist() != other.rows["test"].tolist()


def test_every_process_evaluates_its_share(volumes_dir: Path) -> None:
    dataset = load_volumes("kits19", data_dir=volumes_dir)
    rows = np.array([6, 1, 4, 0, 3])
    found = [list(volume_cases(dataset, rows, index, 2)) for index in range(2)]
    assert [[row for row, _ in share] for share in found] == [[6, 4, 3], [1, 0]]
    np.testing.assert_array_equal(found[1][0][1].image, dataset.read(1).image)


REFUSED = {
    "unknown": (
        dict(name="kits21"),
        "There is no dataset of volumes named 'kits21'; choose one of",
    ),
    "not prepared": (
        dict(name="kits19", data_dir="/nowhere"),
        r"kits19 is not prepared in /nowhere; download it and run: python -m data prepare kits19",
    ),
    "official": (dict(name="kits19", split="official"), "--split official is not possible for vol"),
    "a negative seed": (dict(name="kits19", split_seed=-1), "--split-seed must be a whole number"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_opened_says_why(options: dict, message: str, volumes_dir: Path) -> None:
    with pytest.raises(UserError, match=message):
        load_volumes(**({"data_dir": volumes_dir} | options))


def test_too_few_cases_cannot_be_split(tmp_path: Path) -> None:
    prepare_volumes("kits19", make_kits19(tmp_path / "raw", 3, shape=(6, 9, 8)), tmp_path)
    with pytest.raises(UserError, match=r"No case is in the validation part .*four cases or more"):
        load_volumes("kits19", data_dir=tmp_path)


def test_a_class_that_nothing_is_trained_on_is_refused(raw: Path, tmp_path: Path) -> None:
    for path in raw.glob("*/segmentation.nii.gz"):
        save_nifti(path, np.minimum(stored(path), 1), (3.22, 1.62, 1.62))
    prepare_volumes("kits19", raw, tmp_path / "data")
    with pytest.raises(UserError, match="No voxel of the class tumour is trained on by --split pa"):
        load_volumes("kits19", data_dir=tmp_path / "data")


def test_volumes_are_no_images(volumes_dir: Path) -> None:
    with pytest.raises(UserError, match="kits19 has volumes, which only --task segmentation reads"):
        load_dataset("kits19", data_dir=volumes_dir)


def damaged(folder: Path, damage: str) -> str:
    """Damage a case and return what has to be said of it."""
    path = folder / "case_00001.volume"
    content = bytearray(path.read_bytes())
    if damage == "removed":
        path.unlink()
        return "its file is missing"
    if damage == "cut":
        path.write_bytes(content[:-300])
    elif damage == "flipped":
        content[1000] ^= 4
        path.write_bytes(content)
        return r"slice \d+ has changed since it was written"
    elif damage == "another case":
        path.write_bytes((folder / "case_00002.volume").read_bytes())
        return r"it differs from index\.npz"
    else:
        path.write_bytes(b"")
    return "the end of its file is damaged or missing"


@pytest.mark.fault(
    "a prepared volume is cut, emptied, removed, swapped, or one bit of it is flipped",
    "the case was named, and prepared again alone",
)
@pytest.mark.parametrize("damage", ["removed", "cut", "flipped", "another case", "emptied"])
def test_a_damaged_case_is_named_and_can_be_mended(damage: str, raw: Path, tmp_path: Path) -> None:
    whole = prepare_volumes("kits19", raw, tmp_path)
    reason = damaged(whole.folder, damage)
    dataset = load_volumes("kits19", data_dir=tmp_path)
    dataset.read(0)
    with pytest.raises(
        UserError, match=rf"case_00001.*{reason}.*prepare the dataset again"
    ) as error:
        dataset.read(1)
    assert "\n" not in str(error.value)
    (whole.folder / "case_00001.volume").unlink(missing_ok=True)
    others = {path: path.stat().st_mtime_ns for path in whole.folder.glob("*.volume")}
    assert prepare_volumes("kits19", raw, tmp_path).fingerprint == whole.fingerprint
    assert all(path.stat().st_mtime_ns == time for path, time in others.items())
    load_volumes("kits19", data_dir=tmp_path).read(1)


def test_a_file_that_is_cut_while_it_is_used_is_named(raw: Path, tmp_path: Path) -> None:
    prepared = prepare_volumes("kits19", raw, tmp_path)
    dataset = load_volumes("kits19", data_dir=tmp_path)
    dataset.case(1).read(0, 2)
    os.truncate(prepared.folder / "case_00001.volume", 1000)
    with pytest.raises(
        UserError, match=r"Case case_00001 .*\(it has 280 of the 360 bytes of slice 2"
    ):
        dataset.read(1)
    (prepared.folder / "case_00001.volume").unlink()
    with pytest.raises(UserError, match=r"Case case_00001 .*\(No such file"):
        dataset.read(1)


def test_an_index_that_was_changed_is_refused(raw: Path, tmp_path: Path) -> None:
    prepared = prepare_volumes("kits19", raw, tmp_path)
    path = prepared.folder / "index.npz"
    with np.load(path) as index:
        arrays = dict(index)
    np.savez(path, **(arrays | {"voxel_counts": arrays["voxel_counts"] + 1}))
    with pytest.raises(UserError, match=r"index\.npz does not have the fingerprint recorded in"):
        load_volumes("kits19", data_dir=tmp_path)
    assert prepare_volumes("kits19", raw, tmp_path).fingerprint == prepared.fingerprint
    load_volumes("kits19", data_dir=tmp_path)


def test_places_of_large_classes_are_spread_over_them(tmp_path: Path) -> None:
    shape = (20, 30, 40)
    label_map = np.zeros(shape, np.uint8)
    label_map[5:, 3:, :] = 1
    label_map[2, 2, 2] = 2
    image = np.zeros((*shape, 1), np.float32)
    with open(tmp_path / "a.volume", "wb") as file:
        write_case(file, Volume(image, label_map), 4, "state")
    case = open_case(tmp_path / "a.volume", 1, 4)
    background, large, single, absent = case.positions
    assert len(background) == len(absent) == 0
    assert single.tolist() == [np.ravel_multi_index((2, 2, 2), shape)]
    assert len(large) == MOST_POSITIONS and len(set(large.tolist())) > 0.98 * MOST_POSITIONS
    assert np.all(label_map.ravel()[large] == 1)
    places = np.stack(np.unravel_index(large, shape), axis=1)
    np.testing.assert_allclose(places.mean(0), [12, 16, 19.5], atol=0.4)


def test_the_made_downloads_are_of_all_classes(volumes_dir: Path) -> None:
    for name in ("kits19", "brats20"):
        dataset = load_volumes(name, data_dir=volumes_dir)
        assert np.all(dataset.prepared.voxel_counts > 0)
