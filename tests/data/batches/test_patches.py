"""Patches lie where the seed says, whatever the processes, and hold what the volume holds there."""

from pathlib import Path

import numpy as np
import pytest

from data import VolumeDataset, load_volumes, patch_batches
from data.batches.patches import patch_places
from data.prepared.prepare_volumes import prepare_volumes
from lmf_jax.errors import UserError
from tests.helpers.volume_downloads import KITS19_SPACING, make_kits19, save_nifti, stored

SHAPE = (9, 12, 10)
LARGEST = int(np.prod(SHAPE)) - 1


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> VolumeDataset:
    """Six cases whose voxels say where they lie: their value grows from -79 to 304."""
    folder = tmp_path_factory.mktemp("patches")
    raw = make_kits19(folder / "raw", 6, shape=SHAPE)
    values = np.linspace(-79, 304, LARGEST + 1, dtype=np.float32).reshape(SHAPE)
    for path in raw.glob("*/imaging.nii.gz"):
        save_nifti(path, values, KITS19_SPACING, "IPL")
    prepare_volumes("kits19", raw, folder)
    return load_volumes("kits19", data_dir=folder)


def places(image: np.ndarray) -> np.ndarray:
    """Return where the voxels of a patch lie in the flat volume."""
    return np.round((image[..., 0] * 76.9 + 101 + 79) / 383 * LARGEST).astype(int)


def batches(dataset: VolumeDataset, count: int, **options):
    settings = {"patch_size": (4, 5, 6), "batch_size": 4, "seed": 3} | options
    stream = patch_batches(dataset, np.arange(6), **settings)
    return [next(stream) for _ in range(count)]


def test_a_patch_is_a_piece_of_the_volume(dataset: VolumeDataset) -> None:
    maps = np.stack([dataset.read(row).labels.ravel() for row in range(6)])
    for batch in batches(dataset, 5):
        assert batch["image"].shape == (4, 4, 5, 6, 1) and batch["image"].dtype == np.float32
        assert batch["label"].shape == (4, 4, 5, 6) and batch["label"].dtype == np.int32
        for image, label in zip(batch["image"], batch["label"], strict=True):
            where = places(image)
            start = np.unravel_index(where[0, 0, 0], SHAPE)
            box = tuple(slice(a, a + b) for a, b in zip(start, (4, 5, 6), strict=True))
            np.testing.assert_array_equal(
                where, np.arange(LARGEST + 1).reshape(SHAPE)[box], strict=True
            )
            assert any(np.array_equal(label_map[where], label) for label_map in maps)


def test_every_case_has_a_patch_in_every_pass(dataset: VolumeDataset) -> None:
    maps = [dataset.read(row).labels for row in range(6)]
    found = batches(dataset, 4, patch_size=SHAPE, batch_size=6)
    orders = []
    for batch in found:
        order = [
            next(row for row, label_map in enumerate(maps) if np.array_equal(label_map, label))
            for label in batch["label"]
        ]
        assert sorted(order) == list(range(6))
        orders.append(order)
    assert len({tuple(order) for order in orders}) > 1


def test_only_the_given_rows_are_drawn(dataset: VolumeDataset) -> None:
    stream = patch_batches(
        dataset, np.array([5, 2]), patch_size=SHAPE, batch_size=4, seed=0, foreground_share=0.5
    )
    maps = [dataset.read(row).labels for row in (2, 5)]
    for label in next(stream)["label"]:
        assert any(np.array_equal(label, label_map) for label_map in maps)


@pytest.mark.parametrize("process_count", [2, 4])
def test_any_number_of_processes_sees_the_same_batches(dataset, process_count: int) -> None:
    whole = batches(dataset, 5)
    blocks = [
        batches(dataset, 5, process_index=index, process_count=process_count)
        for index in range(process_count)
    ]
    for number, batch in enumerate(whole):
        for key in ("image", "label"):
            joined = np.concatenate([block[number][key] for block in blocks])
            np.testing.assert_array_equal(joined, batch[key])


def test_a_stream_goes_on_at_any_position(dataset: VolumeDataset) -> None:
    whole = batches(dataset, 9)
    stream = patch_batches(dataset, np.arange(6), patch_size=(4, 5, 6), batch_size=4, seed=3)
    for _ in range(5):
        next(stream)
    state = stream.get_state()
    assert state == {"next_index": 5}
    half = patch_batches(
        dataset,
        np.arange(6),
        patch_size=(4, 5, 6),
        batch_size=4,
        seed=3,
        process_index=1,
        process_count=2,
    )
    for position in (5, 8, 0):
        half.set_state({"next_index": position})
        np.testing.assert_array_equal(next(half)["image"], whole[position]["image"][2:])


def test_the_seed_alone_decides(dataset: VolumeDataset) -> None:
    first, again, other = (batches(dataset, 3, seed=seed) for seed in (3, 3, 4))
    for one, two, three in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one["image"], two["image"])
        assert not np.array_equal(one["image"], three["image"])


def drawn(dataset: VolumeDataset, count: int, **options) -> list:
    """Return the positions of the first patches, in order."""
    settings = {"patch_size": (1, 1, 1), "batch_size": 10, "seed": 3} | options
    order = patch_places(dataset, np.arange(6), **settings)
    return [patch for number in range(count // 10) for patch in order[number]]


def labels_at(dataset: VolumeDataset, patches: list) -> np.ndarray:
    maps = [dataset.read(row).labels for row in range(6)]
    return np.array([maps[patch.row][patch.start] for patch in patches])


def test_what_is_drawn_is_the_same_on_every_machine(dataset: VolumeDataset) -> None:
    found = drawn(dataset, 10, patch_size=(4, 5, 6))[:5]
    assert [(patch.row, patch.start) for patch in found] == [
        (0, (3, 6, 2)),
        (3, (4, 4, 1)),
        (1, (5, 5, 1)),
        (5, (2, 5, 2)),
        (4, (3, 4, 2)),
    ]


def test_patches_of_the_share_are_centered_on_structures(dataset: VolumeDataset) -> None:
    """A patch of one voxel is its own center."""
    voxels = dataset.prepared.voxel_counts.sum(0)
    chance = voxels[1:].sum() / voxels.sum()
    for share in (0.0, 1 / 3, 1.0):
        found = labels_at(dataset, drawn(dataset, 2000, foreground_share=share)) > 0
        assert found.mean() == pytest.approx(share + (1 - share) * chance, abs=0.03)
    assert drawn(dataset, 100) == drawn(dataset, 100, foreground_share=1 / 3)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_classes_are_centered_on_equally_often(dataset: VolumeDataset, share: float) -> None:
    found = labels_at(dataset, drawn(dataset, 2000, foreground_share=share))
    voxels = dataset.prepared.voxel_counts.sum(0)
    expected = share * np.array([0, 0.5, 0.5]) + (1 - share) * voxels / voxels.sum()
    np.testing.assert_allclose(np.bincount(found) / len(found), expected, atol=0.03)


def test_a_center_lies_in_the_middle_where_there_is_room(dataset: VolumeDataset) -> None:
    for batch in batches(dataset, 6, patch_size=(3, 3, 3), foreground_share=1.0):
        for image, label in zip(batch["image"], batch["label"], strict=True):
            start = np.array(np.unravel_index(places(image)[0, 0, 0], SHAPE))
            if np.all((start > 0) & (start + 3 < SHAPE)):
                assert label[1, 1, 1] > 0
            else:
                assert label.max() > 0


def test_uniform_patches_reach_every_place(dataset: VolumeDataset) -> None:
    found = drawn(dataset, 1200, patch_size=(4, 11, 9), foreground_share=0.0)
    starts = np.array([patch.start for patch in found])
    np.testing.assert_allclose(np.bincount(starts[:, 0]), [200] * 6, atol=50)
    np.testing.assert_allclose(np.bincount(starts[:, 1]), [600] * 2, atol=70)
    np.testing.assert_allclose(np.bincount(starts[:, 2]), [600] * 2, atol=70)


def test_a_small_case_lies_in_the_middle_of_padding(dataset: VolumeDataset) -> None:
    for share in (0.0, 1.0):
        batch = batches(dataset, 1, patch_size=(12, 12, 13), foreground_share=share)[0]
        inside = (slice(None), slice(1, 10), slice(None), slice(1, 11))
        for image in batch["image"][inside]:
            np.testing.assert_array_equal(places(image), np.arange(LARGEST + 1).reshape(SHAPE))
        outside = np.ones(batch["label"].shape, bool)
        outside[inside] = False
        assert np.all(batch["image"][outside] == np.float32(dataset.padding))
        assert np.all(batch["label"][outside] == 0)
        assert batch["label"].max() == 2


def test_cases_without_structures_are_drawn_from_uniformly(tmp_path: Path) -> None:
    raw = make_kits19(tmp_path / "raw", 5, shape=(6, 9, 8))
    for path in list(raw.glob("*/segmentation.nii.gz"))[:4]:
        save_nifti(path, np.zeros_like(stored(path)), KITS19_SPACING, "IPL")
    prepared = prepare_volumes("kits19", raw, tmp_path)
    empty = np.flatnonzero(prepared.voxel_counts[:, 1] == 0)
    seed = next(
        seed
        for seed in range(20)
        if not set(range(5)) - set(empty.tolist()) - set(_train(tmp_path, seed))
    )
    dataset = load_volumes("kits19", data_dir=tmp_path, split_seed=seed)
    stream = patch_batches(
        dataset, empty, patch_size=(2, 3, 4), batch_size=4, seed=0, foreground_share=1.0
    )
    assert next(stream)["label"].max() == 0


def _train(data_dir: Path, seed: int) -> list[int]:
    try:
        rows = load_volumes("kits19", data_dir=data_dir, split_seed=seed).rows["train"]
    except UserError:
        return []
    return rows.tolist()


def test_patches_of_several_modalities_are_read(volumes_dir: Path) -> None:
    dataset = load_volumes("brats20", data_dir=volumes_dir)
    stream = patch_batches(
        dataset, dataset.rows["train"], patch_size=(8, 8, 8), batch_size=2, seed=0
    )
    batch = next(stream)
    assert batch["image"].shape == (2, 8, 8, 8, 4)
    assert set(np.unique(batch["label"])) <= {0, 1, 2, 3}


WRONG = {
    "no rows": (dict(rows=np.zeros(0, int)), "expected one or more of 0 to 5"),
    "an unknown row": (dict(rows=np.array([6])), "expected one or more of 0 to 5"),
    "two edges": (dict(patch_size=(4, 5)), r"patch_size is \(4, 5\); expected three numbers"),
    "no voxels": (dict(patch_size=(4, 0, 5)), "expected three numbers from 1"),
    "a large share": (dict(foreground_share=1.5), "foreground_share is 1.5; expected 0 to 1"),
    "no equal share": (dict(process_count=3), "4 examples cannot be divided equally among 3"),
    "no such process": (dict(process_index=2, process_count=2), "no process 2 among 2"),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_numbers_are_refused(options: dict, message: str, dataset: VolumeDataset) -> None:
    settings = {"rows": np.arange(6), "patch_size": (4, 5, 6), "batch_size": 4, "seed": 3} | options
    with pytest.raises(ValueError, match=message):
        patch_batches(dataset, settings.pop("rows"), **settings)


def test_a_damaged_case_ends_the_stream_by_name(tmp_path: Path) -> None:
    prepared = prepare_volumes(
        "kits19", make_kits19(tmp_path / "raw", 5, shape=(6, 9, 8)), tmp_path
    )
    dataset = load_volumes("kits19", data_dir=tmp_path)
    path = prepared.folder / "case_00002.volume"
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.write_bytes(content)
    stream = patch_batches(dataset, np.array([2]), patch_size=(6, 4, 4), batch_size=2, seed=0)
    with pytest.raises(
        UserError, match=r"Case case_00002 .* \(slice 1 has changed since it was written\)"
    ):
        next(stream)
