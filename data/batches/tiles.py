"""Tiles of volumes, patches side by side, for validation during training."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import grain
import numpy as np
from jaxtyping import Bool, Int, Int64

from data.batches.patches import PATCH_OPTIONS, Patch, PatchBatch, read_patches
from data.batches.stream import Stream
from data.shard import block_of
from data.splits.volumes import VolumeDataset


class TileBatch(PatchBatch):
    """One process's block of a global batch; ``mask`` is False for padding."""

    mask: Bool[np.ndarray, " batch"]
    case: Int64[np.ndarray, " batch"]


@dataclass(frozen=True, eq=False)
class TileBatches:
    """Batches of :func:`tile_batches`; every iteration starts from the first."""

    dataset: VolumeDataset
    tiles: Sequence[Patch]
    patch_size: tuple[int, int, int]
    batch_size: int
    block_start: int
    block_size: int

    def __len__(self) -> int:
        return -(-len(self.tiles) // self.batch_size)

    def __iter__(self) -> Iterator[TileBatch]:
        return Stream(grain.MapDataset.range(len(self)).map(self._padded), PATCH_OPTIONS)

    def _padded(self, number: int) -> TileBatch:
        start = number * self.batch_size + self.block_start
        tiles = list(self.tiles[start : start + self.block_size])
        mask = np.arange(self.block_size) < len(tiles)
        tiles += [self.tiles[0]] * (self.block_size - len(tiles))
        batch = read_patches(self.dataset, tiles, self.patch_size)
        return {**batch, "mask": mask, "case": np.array([tile.row for tile in tiles])}


def tile_batches(
    dataset: VolumeDataset,
    rows: Int[np.ndarray, " m"],
    *,
    patch_size: Sequence[int],
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> TileBatches:
    """Return batches of patches that together cover every voxel of these cases.

    The patches of a case lie side by side; the last along an axis ends at the border, so it
    overlaps the one before. A case that is smaller than the patch is centered in it, as in
    training, and foreground predicted in the padding counts as false positive.

    Args:
        dataset: The dataset.
        rows: Rows to cover, [m].
        patch_size: Voxels of a patch along z, y, x.
        batch_size: Global batch size, a multiple of ``process_count``.
        process_index: Index of this process.
        process_count: Number of processes.

    Returns:
        The same number of batches in every process, ``{"image": float32 [b, *patch_size, M],
        "label": int32 [b, *patch_size], "mask": bool [b], "case": int64 [b]}`` with
        b = batch_size // process_count and the row of each patch as its case.

    Raises:
        ValueError: If the batch size is not divisible.
    """
    mine = block_of(batch_size, process_index, process_count)
    size = (int(patch_size[0]), int(patch_size[1]), int(patch_size[2]))
    tiles = [
        Patch(row, (z, y, x))
        for row in rows.tolist()
        for z, y, x in product(*map(_starts, dataset.shapes[row].tolist(), size))
    ]
    return TileBatches(dataset, tiles, size, batch_size, mine.start, mine.stop - mine.start)


def num_tiles(
    dataset: VolumeDataset, rows: Int[np.ndarray, " m"], patch_size: Sequence[int]
) -> int:
    """Return the number of patches in one pass over these cases.

    Args:
        dataset: The dataset.
        rows: Rows to cover, [m].
        patch_size: Voxels of a patch along z, y, x.
    """
    return sum(
        math.prod(map(len, map(_starts, dataset.shapes[row].tolist(), patch_size)))
        for row in rows.tolist()
    )


def _starts(voxels: int, edge: int) -> list[int]:
    """Return the first voxels of patches along an axis; negative if the volume is smaller."""
    if voxels <= edge:
        return [-((edge - voxels) // 2)]
    return [min(start, voxels - edge) for start in range(0, voxels, edge)]
