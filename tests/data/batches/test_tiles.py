"""Tiles cover every voxel of a volume, whatever the processes."""

from pathlib import Path

import numpy as np
import pytest

from data import VolumeDataset, load_volumes
from data.batches.tiles import num_tiles, tile_batches

ROWS = np.array([1, 4, 6])


@pytest.fixture(scope="module")
def dataset(volumes_dir: Path) -> VolumeDataset:
    return load_volumes("brats20", data_dir=volumes_dir)


def smaller_and_larger(dataset: VolumeDataset) -> tuple[int, int, int]:
    """Return a patch larger than the cases along z that does not divide them along y and x."""
    return int(dataset.shapes[ROWS, 0].max()) + 3, 5, 4


def test_every_voxel_is_covered_by_what_the_case_holds_there(dataset: VolumeDataset) -> None:
    size = smaller_and_larger(dataset)
    batches = tile_batches(dataset, ROWS, patch_size=size, batch_size=4)
    tiles = iter(batches.tiles)
    covered = {row: np.zeros(dataset.shapes[row], int) for row in ROWS}
    for batch in batches:
        assert batch["image"].shape == (4, *size, 4)
        for image, label, mask, case in zip(
            batch["image"], batch["label"], batch["mask"], batch["case"], strict=True
        ):
            if not mask:
                continue
            row, (z, y, x) = next(tiles)
            assert (row, z <= 0) == (case, True)
            whole, depth = dataset.read(row), int(dataset.shapes[row, 0])
            box = np.s_[:, y : y + 5, x : x + 4]
            inside = np.s_[-z : depth - z]
            np.testing.assert_array_equal(image[inside], whole.image[box])
            np.testing.assert_array_equal(label[inside], whole.labels[box])
            assert (np.delete(image, range(-z, depth - z), axis=0) == dataset.padding).all()
            assert (np.delete(label, range(-z, depth - z), axis=0) == 0).all()
            covered[row][box] += 1
    assert next(tiles, None) is None
    for counts in covered.values():
        assert counts.min() == 1
        assert counts.max() <= 4  # twice along an axis, where the last tile is shifted inside


def test_as_many_are_counted_as_there_are(dataset: VolumeDataset) -> None:
    size = smaller_and_larger(dataset)
    batches = tile_batches(dataset, ROWS, patch_size=size, batch_size=4)
    assert num_tiles(dataset, ROWS, size) == sum(batch["mask"].sum() for batch in batches)
    shapes = dataset.shapes[ROWS]
    assert num_tiles(dataset, ROWS, size) == (-(-shapes[:, 1] // 5) * -(-shapes[:, 2] // 4)).sum()


@pytest.mark.parametrize("process_count", [2, 4])
def test_processes_have_equally_many_batches_which_are_those_of_one(
    dataset: VolumeDataset, process_count: int
) -> None:
    settings = {"patch_size": (7, 9, 8), "batch_size": 8}
    whole = list(tile_batches(dataset, ROWS, **settings))
    parts = [
        list(tile_batches(dataset, ROWS, process_index=i, process_count=process_count, **settings))
        for i in range(process_count)
    ]
    assert not whole[-1]["mask"].all(), "no batch is padded"
    for batch, blocks in zip(whole, zip(*parts, strict=True), strict=True):
        for name, values in batch.items():
            joined = np.concatenate([block[name] for block in blocks])
            chosen = batch["mask"]  # what fills a batch up is nobody's
            np.testing.assert_array_equal(joined[chosen], values[chosen])
        np.testing.assert_array_equal(
            np.concatenate([block["mask"] for block in blocks]), batch["mask"]
        )


def test_a_batch_that_cannot_be_shared_is_refused(dataset: VolumeDataset) -> None:
    with pytest.raises(ValueError, match="3 examples cannot be divided equally among 2"):
        tile_batches(dataset, ROWS, patch_size=(4, 4, 4), batch_size=3, process_count=2)
