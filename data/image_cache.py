"""Every image decoded and resized once, into one memory-mapped array."""

import io
import math
import os
from pathlib import Path
from typing import Literal

import grain
import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from data.datasets import Dataset
from data.decoding import METHOD_VERSION, DecodedImages, Images
from data.reading import READING
from data.storage import building, replacing
from lmf_jax.config import DEFAULT_DATA_DIR

BLOCK = 16
"""Images that a thread decodes at a time."""


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
) -> UInt8[np.ndarray, "n image_size image_size 3"]:
    """Returns all images of a dataset, decoded and resized, as a read-only memory map.

    The first call for a dataset and size writes the array; later ones open it, whatever the split.
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
    if (cached := _open_whole(path, images.shape)) is not None:
        return cached
    with building(path):
        if (cached := _open_whole(path, images.shape)) is None:
            _write(path, images)
            cached = _open_whole(path, images.shape)
    assert cached is not None
    return cached


def _open_whole(path: Path, shape: tuple[int, ...]) -> UInt8[np.ndarray, "n h w 3"] | None:
    """Opens a finished cache; returns None unless it is the header of these images and as long."""
    header = _header(shape)
    try:
        with path.open("rb") as file:
            is_whole = file.read(len(header)) == header
            is_whole &= file.seek(0, os.SEEK_END) == len(header) + math.prod(shape)
    except OSError:
        return None
    # The header is compared and not parsed: nothing that a file claims is believed.
    return np.memmap(path, np.uint8, "r", len(header), shape) if is_whole else None


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
    # Plain writes, not a writable memory map: a full disk is then an error and not a crash.
    with replacing(path) as file, progress:
        file.write(_header(images.shape))
        blocks = grain.MapDataset.range(num_images).batch(BLOCK).map(images.__getitem__)
        for block in blocks.to_iter_dataset(READING):
            file.write(block.tobytes())
            progress.update(len(block))
