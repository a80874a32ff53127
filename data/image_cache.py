"""Every image decoded and resized once, into one file of pixels."""

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
from jaxtyping import Int, Shaped, UInt8
from tqdm import tqdm

from data.datasets import Dataset
from data.decoding import METHOD_VERSION, DecodedImages
from data.reading import READING
from data.storage import building, replacing
from lmf_jax.config import DEFAULT_DATA_DIR
from lmf_jax.errors import UserError

BLOCK = 16
"""Images that a thread decodes at a time."""


@dataclass(frozen=True, eq=False)
class CachedImages:
    """The images of a dataset in a file, where they lie decoded and resized.

    They are read when they are asked for, and not through a memory map: a file that is cut short
    under a run, or a disk that fails, is then an error and not the death of the interpreter. The
    file stays open, so a run goes on when its name is removed or given to another file.

    The file is an array in NumPy's format, followed by the CRC-32 of every image. What has changed
    on the disk since it was written is noticed when an image is read for the first time. To look
    every time would be several times slower, and the same pages come from memory then.

    Attributes:
        path: The file.
        file: The same, open.
        start: Bytes before the first image.
        shape: The shape of all images together, (n, image_size, image_size, 3).
        ids: Name of every image, unicode [n].
        unread: CRC-32 of the images that were not read yet, by row.
    """

    path: Path
    file: BinaryIO
    start: int
    shape: tuple[int, int, int, int]
    ids: Shaped[np.ndarray, " n"]
    unread: dict[int, int]

    def __getitem__(self, rows: Int[np.ndarray, " m"]) -> UInt8[np.ndarray, "m height width 3"]:
        """Returns the images of these rows, uint8 RGB.

        Raises:
            UserError: If the file is no longer what was written.
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
            raise self._damaged(row, f"{count} of its {image.nbytes} bytes are there")
        expected = self.unread.get(row)
        if expected is not None:
            if zlib.crc32(image) != expected:
                raise self._damaged(row, "its pixels are not those that were written")
            self.unread.pop(row, None)

    def _damaged(self, row: int, reason: str | None) -> UserError:
        return UserError(
            f"Image {self.ids[row]} cannot be read from the image cache {self.path} ({reason}); "
            "remove that file, and the next run makes it anew."
        )


Images = UInt8[np.ndarray, "n height width 3"] | CachedImages | DecodedImages
"""All images of a dataset, [n, height, width, 3]: an array in memory, or what reads or decodes
those of the rows that are asked for."""


def open_images(
    dataset: Dataset,
    image_size: int,
    *,
    cache: Literal["disk", "none"] = "disk",
    data_dir: str | Path = DEFAULT_DATA_DIR,
) -> Images:
    """Returns all images of a dataset, decoded and resized.

    Args:
        dataset: The dataset.
        image_size: Height and width of the result, in pixels.
        cache: "disk" decodes them once, as :func:`cached_images`; "none" whenever they are read.
        data_dir: The folder of prepared datasets and image caches.
    """
    if cache == "none":
        return DecodedImages(dataset, image_size)
    return cached_images(dataset, image_size, data_dir)


def cached_images(
    dataset: Dataset, image_size: int, data_dir: str | Path = DEFAULT_DATA_DIR
) -> CachedImages:
    """Returns all images of a dataset, decoded and resized, to be read from a file.

    The first call for a dataset and size writes the file; later ones open it, whatever the split.
    Any number of processes may call this at once: one decodes, the others wait for it.

    Args:
        dataset: The dataset.
        image_size: Height and width of the result, in pixels.
        data_dir: The folder of prepared datasets and image caches; "~" is the home folder.

    Returns:
        uint8 RGB images in the row order of the dataset, [n, image_size, image_size, 3].

    Raises:
        UserError: If an image cannot be decoded, or ``data_dir`` cannot be written.
        ValueError: If ``image_size`` is below 1.
    """
    if image_size < 1:
        raise ValueError(f"image_size must be at least 1 pixel, got {image_size}.")
    key = f"{dataset.content_fingerprint[:32]}-{image_size}px-v{METHOD_VERSION}"
    path = Path(data_dir).expanduser() / "images" / f"{key}.npy"
    images = DecodedImages(dataset, image_size)
    if (cached := _open_whole(path, images)) is not None:
        return cached
    with building(path):
        if (cached := _open_whole(path, images)) is not None:
            return cached
        _write(path, images)
        return _open(path, images)


def _open_whole(path: Path, images: DecodedImages) -> CachedImages | None:
    """Opens a finished cache; returns None if it is absent or not whole."""
    try:
        return _open(path, images)
    except (OSError, ValueError):
        return None


def _open(path: Path, images: DecodedImages) -> CachedImages:
    """Opens a finished cache; raises ValueError if it is not one of these images."""
    header = _header(images.shape)
    num_images, start = images.shape[0], len(header)
    end = start + math.prod(images.shape)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(path, "rb"))
        # The header is compared and not parsed: nothing that a file claims is believed.
        is_whole = file.read(start) == header
        if not is_whole or file.seek(0, os.SEEK_END) != end + 4 * num_images:
            raise ValueError(f"{path} holds other images.")
        file.seek(end)
        unread = dict(enumerate(np.frombuffer(file.read(), "<u4").tolist()))
        cached = CachedImages(path, file, start, images.shape, images.dataset.ids, unread)
        weakref.finalize(cached, stack.pop_all().close)
    return cached


def _header(shape: tuple[int, ...]) -> bytes:
    """Returns how a file of these images begins."""
    file = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def _write(path: Path, images: DecodedImages) -> None:
    num_images = images.shape[0]
    progress = tqdm(
        total=num_images, desc="Decoding images", unit="image", leave=False, delay=2, disable=None
    )
    checksums: list[int] = []
    with replacing(path) as file, progress:
        file.write(_header(images.shape))
        blocks = grain.MapDataset.range(num_images).batch(BLOCK).map(images.__getitem__)
        for block in blocks.to_iter_dataset(READING):
            file.write(block.tobytes())
            checksums += map(zlib.crc32, block)
            progress.update(len(block))
        file.write(np.array(checksums, "<u4").tobytes())
