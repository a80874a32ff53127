"""Patches of volumes for training, and whole volumes for evaluation.

As with images, the order is fixed before batches are divided among processes: patch number i of the
endless stream depends only on the seed and i. A global batch is the next ``batch_size`` patches;
process p of P reads the p-th of its P equal blocks. So any number of processes sees the same global
batches, and a position is one number.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import grain
import numpy as np
from jaxtyping import Float32, Int, Int32

from data.batches.stream import Stream
from data.shard import block_of
from data.splits.volumes import Volume, VolumeDataset

FOREGROUND_SHARE = 1 / 3
"""Fraction of patches that are centered on a voxel of a structure, as in nnU-Net.

Isensee et al., nnU-Net: a self-configuring method for deep learning-based biomedical image
segmentation, Nature Methods 18, 2021.
"""

# Each use of a seed draws from its own stream; data/splits/methods.py has the first two.
_PATCH_STREAM = 2
_ORDER_STREAM = 3

PATCH_OPTIONS = grain.ReadOptions(num_threads=4, prefetch_buffer_size=4)
"""Options to read blocks of patches: few threads, since a batch can take 100 MB and copying it
releases the GIL."""


class PatchBatch(TypedDict):
    """One process's block of a global batch of patches."""

    image: Float32[np.ndarray, "batch depth height width modalities"]
    label: Int32[np.ndarray, "batch depth height width"]


class Patch(NamedTuple):
    """Position of a patch.

    Attributes:
        row: Row number of the case.
        start: First voxel along z, y, x; negative if the patch begins before the volume.
    """

    row: int
    start: tuple[int, int, int]


def patch_batches(
    dataset: VolumeDataset,
    rows: Int[np.ndarray, " m"],
    *,
    patch_size: Sequence[int],
    batch_size: int,
    seed: int,
    foreground_share: float = FOREGROUND_SHARE,
    process_index: int = 0,
    process_count: int = 1,
) -> Stream[PatchBatch]:
    """Return an endless stream of full batches of patches.

    Every pass over the cases has a different order, and takes one patch of each. With probability
    ``foreground_share``, a patch is centered on a random voxel of a random foreground class of the
    case; else, and in cases of background alone, all positions within the volume are equally
    likely. A patch with its center too near to the border is shifted inside. A case that is smaller
    than the patch along an axis is placed in its middle, with the dataset's padding and labels 0
    around it.

    ``get_state()`` counts the batches returned; it can be set on a stream of any process count.

    Args:
        dataset: The dataset.
        rows: Rows to train on, [m].
        patch_size: Voxels of a patch along z, y, x.
        batch_size: Global batch size, a multiple of ``process_count``.
        seed: Seed of cases and positions; any whole number from 0.
        foreground_share: Fraction of patches centered on a structure, in [0, 1].
        process_index: Index of this process.
        process_count: Number of processes.

    Returns:
        An iterator over ``{"image": float32 [b, *patch_size, M], "label": int32 [b, *patch_size]}``
        with b = batch_size // process_count.

    Raises:
        ValueError: If there are no rows, or an argument is out of range.
    """
    mine = block_of(batch_size, process_index, process_count)
    places = patch_places(
        dataset,
        rows,
        patch_size=patch_size,
        batch_size=batch_size,
        seed=seed,
        foreground_share=foreground_share,
    )
    blocks = places.map(lambda patches: read_patches(dataset, patches[mine], patch_size))
    return Stream(blocks, PATCH_OPTIONS)


def patch_places(
    dataset: VolumeDataset,
    rows: Int[np.ndarray, " m"],
    *,
    patch_size: Sequence[int],
    batch_size: int,
    seed: int,
    foreground_share: float = FOREGROUND_SHARE,
) -> grain.MapDataset:
    """Return the endless order of patches, as global batches of positions.

    Args:
        dataset: The dataset.
        rows: Rows to train on, [m].
        patch_size: Voxels of a patch along z, y, x.
        batch_size: Global batch size.
        seed: Seed of cases and positions; any whole number from 0.
        foreground_share: Fraction of patches centered on a structure, in [0, 1].

    Returns:
        Element i is global batch i: a list of ``batch_size`` :class:`Patch`.

    Raises:
        ValueError: If there are no rows, or an argument is out of range.
    """
    if not len(rows) or rows.min() < 0 or rows.max() >= len(dataset.ids):
        raise ValueError(f"rows are {rows}; expected one or more of 0 to {len(dataset.ids) - 1}.")
    if len(patch_size) != 3 or min(patch_size) < 1:
        raise ValueError(f"patch_size is {tuple(patch_size)}; expected three numbers from 1.")
    if not 0 <= foreground_share <= 1:
        raise ValueError(f"foreground_share is {foreground_share}; expected 0 to 1.")
    draw = _Draw(dataset, rows, patch_size, seed, foreground_share)

    def batch(number: int) -> list[Patch]:
        return [draw(number * batch_size + place) for place in range(batch_size)]

    return grain.MapDataset.range(1).repeat().map_with_index(lambda number, _: batch(number))


def volume_cases(
    dataset: VolumeDataset,
    rows: Int[np.ndarray, " m"],
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[tuple[int, Volume]]:
    """Read whole cases one by one, each in one of the processes.

    Process p of P gets rows p, p + P, p + 2P, ... of those given, so processes may get different
    numbers of cases: the loop must not contain a collective operation.

    Args:
        dataset: The dataset.
        rows: Rows to evaluate, [m].
        process_index: Index of this process.
        process_count: Number of processes.

    Yields:
        The row number and the volume.

    Raises:
        UserError: If the file of a case is missing or damaged.
    """
    for row in rows[process_index::process_count].tolist():
        yield row, dataset.read(row)


@dataclass(frozen=True, eq=False)
class _Draw:
    """Random positions of patches, which depend only on the seed and the number of the patch."""

    dataset: VolumeDataset
    rows: Int[np.ndarray, " m"]
    patch_size: Sequence[int]
    seed: int
    foreground_share: float

    def __call__(self, number: int) -> Patch:
        row = self._case(*divmod(number, len(self.rows)))
        # Raw output is the same in all versions of NumPy; its upper 53 bits make a fraction.
        raw = np.random.PCG64([self.seed, _PATCH_STREAM, number]).random_raw(6)
        way, which, voxel, *places = ((raw >> np.uint64(11)) * 2.0**-53).tolist()
        shape = self.dataset.shapes[row].tolist()
        counts = self.dataset.prepared.voxel_counts[row]
        classes = 1 + np.flatnonzero(counts[1:])
        center = None
        if way < self.foreground_share and len(classes):
            positions = self.dataset.case(row).positions[classes[int(which * len(classes))]]
            center = np.unravel_index(positions[int(voxel * len(positions))], shape)
        starts = []
        for axis, (voxels, edge) in enumerate(zip(shape, self.patch_size, strict=True)):
            room = voxels - edge
            if room < 0:
                starts.append(-(-room // 2))
            elif center is None:
                starts.append(int(places[axis] * (room + 1)))
            else:
                starts.append(min(max(int(center[axis]) - edge // 2, 0), room))
        return Patch(row, (starts[0], starts[1], starts[2]))

    def _case(self, passes: int, place: int) -> int:
        """Return the row at a position in a pass; Grain's shuffle is slow for few cases."""
        keys = np.random.PCG64([self.seed, _ORDER_STREAM, passes]).random_raw(len(self.rows))
        return int(self.rows[np.argsort(keys, kind="stable")[place]])


def read_patches(
    dataset: VolumeDataset, patches: Sequence[Patch], size: Sequence[int]
) -> PatchBatch:
    """Read patches of equal size.

    Args:
        dataset: The dataset.
        patches: Positions of the patches.
        size: Voxels of a patch along z, y, x.
    """
    shape = (len(patches), *size)
    image = np.full((*shape, len(dataset.modalities)), dataset.padding, np.float32)
    label = np.zeros(shape, np.int32)
    for number, (row, start) in enumerate(patches):
        voxels = dataset.shapes[row].tolist()
        inside = [
            slice(max(0, first), min(limit, first + edge))
            for first, edge, limit in zip(start, size, voxels, strict=True)
        ]
        target = tuple(
            slice(part.start - first, part.stop - first)
            for part, first in zip(inside, start, strict=True)
        )
        slices = dataset.case(row).read(inside[0].start, inside[0].stop)
        image[number][target] = slices.image[:, inside[1], inside[2]]
        label[number][target] = slices.labels[:, inside[1], inside[2]]
    return {"image": image, "label": label}
