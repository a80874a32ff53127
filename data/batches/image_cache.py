"""Cache of the decoded and resized images or masks of a dataset in one file."""

import contextlib
import io
import math
import os
import weakref
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import grain
import numpy as np
from jaxtyping import Int, Int64, Shaped, UInt8
from tqdm import tqdm

from data.batches.decoded import Decoded, DecodedImages, DecodedMasks, decoded_images
from data.batches.stream import DECODE_OPTIONS
from data.formats.images import METHOD_VERSION
from data.formats.masks import MASK_VERSION
from data.splits.dataset import SplitDataset
from data.splits.segmentation import SegmentationDataset
from data.storage import build_lock, replacing
from lmf_jax.config import DEFAULT_DATA_DIR, ImageSpec
from lmf_jax.errors import UserError

BLOCK = 16
"""Number of images that a thread decodes at a time."""


@dataclass(frozen=True, eq=False)
class CachedImages:
    """Decoded and resized images or masks of a dataset in a file.

    They are read on demand, not through a memory map: a truncated file or a failing disk then
    raises an exception instead of killing the interpreter. The file stays open, so a run continues
    if the file is removed or replaced.

    The file is an array in NumPy's format, followed by the CRC-32 of every image. Checksums are
    compared only when an image is first read: comparing every time would be several times slower,
    and later reads of the same pages come from memory.

    Attributes:
        path: The file.
        file: The opened file.
        start: Bytes before the first image.
        shape: Shape of the array of all images, (n, height, width, channels), or of all masks,
            (n, height, width).
        ids: Name of every image, unicode [n].
        unread: CRC-32 of the images that have not been read yet, by row.
        noun: "Image" or "Mask".
    """

    path: Path
    file: BinaryIO
    start: int
    shape: tuple[int, ...]
    ids: Shaped[np.ndarray, " n"]
    unread: dict[int, int]
    noun: str = "Image"

    def __getitem__(self, rows: Int[np.ndarray, " m"]) -> UInt8[np.ndarray, "m height width *_"]:
        """Return the images of these rows, uint8 RGB or gray, or the masks, uint8 class ids.

        Raises:
            UserError: If the file has changed since it was written.
            IndexError: If there is no such row.
        """
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        every_row = range(self.shape[0])
        for image, row in zip(images, rows.tolist(), strict=True):
            self._read(every_row[row], image.data)
        return images

    def _read(self, row: int, image: memoryview) -> None:
        try:
            count = os.preadv(self.file.fileno(), [image], self.start + row * image.nbytes)
        except OSError as error:
            raise self._damaged(row, error.strerror) from error
        if count < image.nbytes:
            raise self._damaged(row, f"the file has {count} of its {image.nbytes} bytes")
        expected = self.unread.get(row)
        if expected is not None:
            if zlib.crc32(image) != expected:
                raise self._damaged(row, "its pixels have changed since they were written")
            self.unread.pop(row, None)

    def _damaged(self, row: int, reason: str | None) -> UserError:
        return UserError(
            f"{self.noun} {self.ids[row]} cannot be read from the image cache {self.path} "
            f"({reason}); remove that file, and the next run writes it again."
        )


Images = UInt8[np.ndarray, "n height width channels"] | CachedImages | DecodedImages
"""All images of a dataset, [n, height, width, channels]: an array in memory, or an object that
reads or decodes the requested rows."""

Masks = UInt8[np.ndarray, "n height width"] | CachedImages | DecodedMasks
"""All masks of a dataset as class ids, [n, height, width], likewise."""


def open_images(
    dataset: SplitDataset,
    spec: ImageSpec,
    *,
    cache: Literal["disk", "none"] = "disk",
    data_dir: str | Path = DEFAULT_DATA_DIR,
) -> Images:
    """Return all images of a dataset, decoded and resized.

    Args:
        dataset: The dataset.
        spec: Size of the result.
        cache: "disk" decodes them once, as :func:`cached_images`; "none" on every read.
        data_dir: Folder of prepared datasets and image caches.

    Raises:
        UserError: If the size is of volumes and the dataset has images, or the other way round; or
            as :func:`cached_images`.
    """
    if (spec.depth is not None) != dataset.whole_volumes:
        has, expected = ("volumes", "images") if dataset.whole_volumes else ("images", "volumes")
        raise UserError(
            f"{dataset.name} has {has}, and the model takes {expected}; give {expected}."
        )
    if cache == "none":
        return decoded_images(dataset, spec)
    return cached_images(dataset, spec, data_dir)


def open_masks(
    dataset: SegmentationDataset,
    spec: ImageSpec,
    *,
    cache: Literal["disk", "none"] = "disk",
    data_dir: str | Path = DEFAULT_DATA_DIR,
) -> Masks:
    """Return all masks of a dataset, decoded and resized like :func:`open_images`.

    Args:
        dataset: The dataset.
        spec: Size of the result.
        cache: "disk" decodes them once, into a separate file; "none" on every read.
        data_dir: Folder of prepared datasets and image caches; "~" is the home folder.

    Returns:
        Masks, indexed by rows: uint8 class ids, [m, height, width], every pixel with the class at
        its center.

    Raises:
        UserError: If a mask cannot be decoded, or ``data_dir`` cannot be written.
    """
    masks = DecodedMasks(dataset, spec)
    if cache == "none":
        return masks
    return _cached(masks, f"{spec.mask_key}-masks-v{MASK_VERSION}", data_dir)


def pixel_counts(
    masks: Masks, rows: Int[np.ndarray, " m"], num_classes: int
) -> Int64[np.ndarray, " num_classes"]:
    """Return the number of pixels of each class in some masks, with few in memory at a time.

    Args:
        masks: All masks of a dataset, [n, height, width].
        rows: Rows of the masks to count, [m].
        num_classes: Number of classes.

    Raises:
        UserError: If a mask cannot be read or decoded.
        ValueError: If a pixel has another class.
    """
    counts = np.zeros(num_classes, np.int64)

    def count(block: Int[np.ndarray, " b"]) -> Int64[np.ndarray, " _"]:
        return np.bincount(masks[block].ravel(), minlength=num_classes)

    blocks = grain.MapDataset.source(rows).batch(BLOCK).map(count)
    for found in blocks.to_iter_dataset(DECODE_OPTIONS):
        if len(found) > num_classes:
            raise ValueError(f"Masks hold {len(found) - 1}; expected 0 to {num_classes - 1}.")
        counts += found
    return counts


def cached_images(
    dataset: SplitDataset, spec: ImageSpec, data_dir: str | Path = DEFAULT_DATA_DIR
) -> CachedImages:
    """Return all images of a dataset, decoded and resized, from a file.

    The first call for a dataset and size writes the file; later ones open it, whatever the split.
    Several processes may call this at the same time: one decodes, the others wait for it.

    Args:
        dataset: The dataset.
        spec: Size of the result.
        data_dir: Folder of prepared datasets and image caches; "~" is the home folder.

    Returns:
        uint8 images in the row order of the dataset, [n, height, width, channels].

    Raises:
        UserError: If an image cannot be decoded, or ``data_dir`` cannot be written.
    """
    images = decoded_images(dataset, spec)
    return _cached(images, f"{spec.key}-v{METHOD_VERSION}", data_dir)


def _cached(images: Decoded, key: str, data_dir: str | Path) -> CachedImages:
    """Open the file of these images or masks; write it the first time."""
    name = f"{images.dataset.content_fingerprint[:32]}-{key}.npy"
    path = Path(data_dir).expanduser() / "images" / name
    if (cached := _open_complete(path, images)) is not None:
        return cached
    with build_lock(path):
        if (cached := _open_complete(path, images)) is not None:
            return cached
        _write(path, images)
        return _open(path, images)


def _open_complete(path: Path, images: Decoded) -> CachedImages | None:
    """Open a finished cache, or return None if it is missing or incomplete."""
    try:
        return _open(path, images)
    except (OSError, ValueError):
        return None


def _open(path: Path, images: Decoded) -> CachedImages:
    """Open a finished cache; raise ``ValueError`` if it is not of these images."""
    header = _header(images.shape)
    num_images, start = images.shape[0], len(header)
    end = start + math.prod(images.shape)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(path, "rb"))
        # The header is compared, not parsed: the file may come from anywhere.
        is_valid = file.read(start) == header
        if not is_valid or file.seek(0, os.SEEK_END) != end + 4 * num_images:
            raise ValueError(f"{path} holds other images.")
        file.seek(end)
        unread = dict(enumerate(np.frombuffer(file.read(), "<u4").tolist()))
        ids = images.dataset.ids
        cached = CachedImages(path, file, start, images.shape, ids, unread, images.NOUN)
        weakref.finalize(cached, stack.pop_all().close)
    return cached


def _header(shape: tuple[int, ...]) -> bytes:
    """Return the NumPy header of a file of these images."""
    file = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def _write(path: Path, images: Decoded) -> None:
    num_images = images.shape[0]
    progress = tqdm(
        total=num_images,
        desc=f"Decoding {images.NOUN.lower()}s",
        unit=images.NOUN.lower(),
        leave=False,
        delay=2,
        disable=None,
    )
    checksums: list[int] = []
    with replacing(path) as file, progress:
        file.write(_header(images.shape))
        blocks = grain.MapDataset.range(num_images).batch(BLOCK).map(images.__getitem__)
        for block in blocks.to_iter_dataset(DECODE_OPTIONS):
            file.write(block.tobytes())
            checksums += map(zlib.crc32, block)
            progress.update(len(block))
        file.write(np.array(checksums, "<u4").tobytes())
