"""Grain pipelines from an array of images to the batches of one process.

The order is fixed before batches are divided among processes: there is one endless order of the
training rows, which depends only on the seed. A global batch is the next ``batch_size`` rows, and
process p of P reads the p-th of its P equal blocks. So any number of processes sees the same global
batches in the same order, and a position in the stream is one number, valid for all of them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NotRequired, TypedDict, cast

import grain
import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, Integer, Shaped, UInt8

from data.batches.decoded import DecodedImages, DecodedMasks
from data.batches.image_cache import CachedImages, Images, Masks
from data.batches.sampling import Sampling, positions
from data.batches.stream import DECODE_OPTIONS, IN_MEMORY_OPTIONS, NUM_PROCESSES, Stream
from data.shard import block_of

Targets = Int[np.ndarray, " n"] | Int[np.ndarray, "n labels"] | Masks
"""Targets of all images: a class for each, [n], a label vector for each, [n, labels], with -1 for a
missing label, or a class for every pixel, [n, height, width]."""

BatchTargets = (
    Int32[np.ndarray, " batch"]
    | Int32[np.ndarray, "batch labels"]
    | Int32[np.ndarray, "batch height width"]
)
"""Targets of the images of a batch."""

FurtherInputs = Mapping[str, Shaped[np.ndarray, "n ..."]]
"""Inputs of the model besides the images, such as ``metadata``: an array over all examples,
[n, ...], by its name in a batch."""


class TrainBatch(TypedDict):
    """One process's block of a global training batch."""

    image: UInt8[np.ndarray, "batch *space channels"]
    label: BatchTargets
    metadata: NotRequired[Float32[np.ndarray, "batch features"]]


class EvaluationBatch(TypedDict):
    """One process's block of a global evaluation batch; ``mask`` is False for padding."""

    image: UInt8[np.ndarray, "batch *space channels"]
    label: BatchTargets
    mask: Bool[np.ndarray, " batch"]
    metadata: NotRequired[Float32[np.ndarray, "batch features"]]


def train_batches(
    images: Images,
    labels: Targets,
    rows: Int[np.ndarray, " m"],
    *,
    batch_size: int,
    seed: int,
    num_classes: int | None = None,
    sampling: Sampling = "uniform",
    effective_number_beta: float = 0.9999,
    further: FurtherInputs | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> Stream[TrainBatch]:
    """Return an endless stream of full training batches.

    With uniform sampling every pass over the rows has a different order, and batches are taken from
    the stream of all passes: a batch may span two passes, none is short, and a batch may be larger
    than the dataset.

    ``get_state()`` counts the batches returned. It can be set on a stream of any process count:
    after 100 batches with one process, two processes continue with the 101st.

    Args:
        images: All images of the dataset, [n, height, width, channels].
        labels: Class of every image, [n], all label vectors, [n, labels], or all masks,
            [n, height, width].
        rows: Rows to train on, [m].
        batch_size: Global batch size, a multiple of ``process_count``.
        seed: Seed of the order; any whole number from 0.
        num_classes: Number of classes, to check the labels; None skips this.
        sampling: "uniform", or "class-balanced" or "effective-number" for more images of rare
            classes or labels; see :func:`data.batches.sampling.positions`. With masks "uniform"
            alone.
        effective_number_beta: Parameter of "effective-number".
        further: Further inputs, which each batch has under their names (default: none).
        process_index: Index of this process.
        process_count: Number of processes.

    Returns:
        An iterator over ``{"image": [b, height, width, channels], "label": [b]}`` with
        b = batch_size // process_count; with masks "label" is [b, height, width].

    Raises:
        ValueError: If there are no rows, rows or labels are out of range, images and masks differ
            in size, masks are not sampled uniformly, or the batch size is not divisible.
    """
    if len(rows) == 0:
        raise ValueError("There are no rows to train on.")
    _check(images, labels, rows, num_classes, further or {})
    mine = block_of(batch_size, process_index, process_count)
    if isinstance(labels, np.ndarray) and labels.ndim <= 2:
        classes = labels[rows]
    elif sampling == "uniform":
        classes = np.zeros(len(rows), np.int64)
    else:
        raise ValueError(
            f"Sampling is {sampling}, which needs a class or label vector per image; use uniform "
            "with masks."
        )
    batches = positions(
        classes,
        sampling,
        batch_size=batch_size,
        seed=seed,
        effective_number_beta=effective_number_beta,
    )
    blocks = batches.map(_TrainBlocks(images, labels, rows, mine, further or {}))
    if _decodes(images, labels):
        # Open files cannot be sent to other processes.
        cached = isinstance(images, CachedImages) or isinstance(labels, CachedImages)
        return Stream(blocks, DECODE_OPTIONS, 0 if cached else NUM_PROCESSES)
    return Stream(blocks, IN_MEMORY_OPTIONS)


@dataclass(frozen=True, eq=False)
class _TrainBlocks:
    """Function from a global batch of positions to the block of this process; picklable."""

    images: Images
    labels: Targets
    rows: Int[np.ndarray, " m"]
    mine: slice
    further: FurtherInputs

    def __call__(self, batch: Int[np.ndarray, " batch"]) -> TrainBatch:
        block = self.rows[batch[self.mine]]
        made = {"image": self.images[block], "label": self.labels[block].astype(np.int32)}
        return cast(
            TrainBatch, made | {name: of_all[block] for name, of_all in self.further.items()}
        )


@dataclass(frozen=True, eq=False)
class EvaluationBatches:
    """Batches of :func:`evaluation_batches`; every iteration starts from the first."""

    images: Images
    labels: Targets
    rows: Int[np.ndarray, " m"]
    batch_size: int
    block_start: int
    block_size: int
    further: FurtherInputs

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[EvaluationBatch]:
        batches = grain.MapDataset.range(len(self)).map(self._padded)
        # Starting processes would take longer than most passes.
        return Stream(
            batches, DECODE_OPTIONS if _decodes(self.images, self.labels) else IN_MEMORY_OPTIONS
        )

    def _padded(self, number: int) -> EvaluationBatch:
        start = number * self.batch_size + self.block_start
        rows = self.rows[start : start + self.block_size]
        image = _padded_to(self.images[rows], self.block_size)
        label = _padded_to(self.labels[rows].astype(np.int32), self.block_size)
        made = {"image": image, "label": label, "mask": np.arange(self.block_size) < len(rows)}
        for name, of_all in self.further.items():
            made[name] = _padded_to(of_all[rows], self.block_size)
        return cast(EvaluationBatch, made)


def _padded_to(values: np.ndarray, length: int) -> np.ndarray:
    """Pad values with zeros to a length; return them without a copy if they have it."""
    missing = np.zeros((length - len(values), *values.shape[1:]), values.dtype)
    return np.concatenate([values, missing]) if len(missing) else values


def evaluation_batches(
    images: Images,
    labels: Targets,
    rows: Int[np.ndarray, " m"],
    *,
    batch_size: int,
    num_classes: int | None = None,
    further: FurtherInputs | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> EvaluationBatches:
    """Return batches that cover every row exactly once over all processes, in row order.

    Global batch i has ``rows[i * B : (i + 1) * B]``, and process p of P gets examples
    ``p * B // P`` to ``(p + 1) * B // P`` of it: concatenate the blocks of all processes, drop the
    masked examples, and the rows are in order again. The last global batch is padded with zero
    images of label 0 and ``mask`` False, so every process has the same number of batches of equal
    size; some of its blocks may be padding alone.

    Args:
        images: All images of the dataset, [n, height, width, channels].
        labels: Class of every image, [n], or all masks, [n, height, width].
        rows: Rows to evaluate, [m].
        batch_size: Global batch size, a multiple of ``process_count``.
        num_classes: Number of classes, to check the labels; None skips this.
        further: Further inputs, which each batch has under their names (default: none).
        process_index: Index of this process.
        process_count: Number of processes.

    Returns:
        ceil(m / batch_size) batches
        ``{"image": [b, height, width, channels], "label": [b], "mask": [b]}`` with
        b = batch_size // process_count, which can be iterated any number of times. With masks
        "label" is [b, height, width], and "mask" still marks the images that are not padding.

    Raises:
        ValueError: If rows or labels are out of range, images and masks differ in size, or the
            batch size is not divisible.
    """
    _check(images, labels, rows, num_classes, further or {})
    mine = block_of(batch_size, process_index, process_count)
    block_size = mine.stop - mine.start
    return EvaluationBatches(
        images, labels, rows, batch_size, mine.start, block_size, further or {}
    )


def _decodes(images: Images, labels: Targets) -> bool:
    """Return whether images or labels are decoded on every read."""
    return isinstance(images, DecodedImages) or isinstance(labels, DecodedMasks)


def _check(
    images: Images,
    labels: Targets,
    rows: Int[np.ndarray, " m"],
    num_classes: int | None,
    further: FurtherInputs,
) -> None:
    """Raise ``ValueError`` for values that NumPy and JAX would silently convert."""
    if isinstance(images, np.ndarray) and images.dtype != np.uint8:
        raise ValueError(f"Images are {images.dtype}; expected uint8, RGB in 0 to 255.")
    if labels.shape[0] != images.shape[0]:
        raise ValueError(f"There are {labels.shape[0]} labels for {images.shape[0]} images.")
    for name, of_all in further.items():
        if len(of_all) != labels.shape[0]:
            raise ValueError(f"There are {len(of_all)} {name} for {labels.shape[0]} images.")
    _check_range("Rows", rows, labels.shape[0])
    if len(labels.shape) > 2 and labels.shape[1:] != images.shape[1:3]:
        raise ValueError(
            f"Masks are {labels.shape[1:]} for images of {images.shape[1:3]}; expected one size."
        )
    if isinstance(labels, np.ndarray):  # decoded masks contain only class ids
        if labels.ndim == 2:
            _check_range("Label vectors", labels[rows], 2, low=-1)
        else:
            _check_range("Labels", labels[rows], num_classes or 2**31)


def _check_range(name: str, numbers: Integer[np.ndarray, "*_"], limit: int, low: int = 0) -> None:
    if not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"{name} are {numbers.dtype}; expected whole numbers.")
    outside = numbers[(numbers < low) | (numbers >= limit)]
    if len(outside):
        raise ValueError(f"{name} hold {outside[0]}; expected {low} to {limit - 1}.")
