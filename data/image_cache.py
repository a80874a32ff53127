"""Every image decoded and resized once, into one memory-mapped array."""

import functools
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from data.datasets import Dataset
from data.storage import building, replacing
from lmf_jax.config import DEFAULT_DATA_DIR
from lmf_jax.errors import UserError

METHOD_VERSION = 1
"""Goes up whenever :func:`decode_image` turns the same bytes into other pixels."""

CHUNK = 256
"""Images in flight at once: bounds the memory, and what is still decoded after a failure."""


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
    shape = (len(dataset.ids), image_size, image_size, 3)
    if (images := _open_whole(path, shape)) is not None:
        return images
    with building(path):
        if _open_whole(path, shape) is None:
            _write(path, dataset, shape)
        return np.load(path, mmap_mode="r")


def decode_image(encoded: bytes, image_size: int) -> UInt8[np.ndarray, "image_size image_size 3"]:
    """Decodes one image to square RGB, as a viewer would show it.

    The EXIF rotation is applied; grey and palette become RGB; transparent parts are laid on white;
    16-bit grey is scaled from its full range. The image is resized to a square with antialiased
    bilinear interpolation, whatever its aspect ratio.

    Args:
        encoded: The bytes of an image file that Pillow knows.
        image_size: Height and width of the result, in pixels.

    Returns:
        uint8 RGB, [image_size, image_size, 3].

    Raises:
        Exception: Whatever Pillow raises for bytes it cannot decode.
    """
    with Image.open(io.BytesIO(encoded)) as image:
        rgb = to_rgb(image)
    return np.asarray(rgb.resize((image_size, image_size), Image.Resampling.BILINEAR))


def to_rgb(image: Image.Image) -> Image.Image:
    """Returns an opened image as a viewer would show it, in RGB and in its own size.

    Args:
        image: What Pillow opened; see :func:`decode_image`.

    Raises:
        Exception: Whatever Pillow raises for bytes it cannot decode.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        return _grey16_to_rgb(image)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _grey16_to_rgb(image: Image.Image) -> Image.Image:
    """Scales 0..65535 to 0..255, where Pillow itself would clip at 255."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("its pixels lie outside 0..65535; save it with 8 or 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")


def _open_whole(path: Path, shape: tuple[int, ...]) -> UInt8[np.ndarray, "n h w 3"] | None:
    """Opens a finished cache; returns None if it is absent, or shorter than its header says."""
    try:
        images = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


def _write(path: Path, dataset: Dataset, shape: tuple[int, ...]) -> None:
    num_images, image_size = shape[:2]
    decode = functools.partial(_decode_row, dataset, image_size)
    progress = tqdm(
        total=num_images, desc="Decoding images", unit="image", leave=False, delay=2, disable=None
    )
    # Plain writes, not a writable memory map: a full disk is then an error and not a crash.
    with replacing(path) as file, ThreadPoolExecutor() as pool, progress:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, num_images, CHUNK):
            for image in pool.map(decode, range(start, min(start + CHUNK, num_images))):
                file.write(image.tobytes())
                progress.update()


def _decode_row(
    dataset: Dataset, image_size: int, row: int
) -> UInt8[np.ndarray, "image_size image_size 3"]:
    try:
        return decode_image(dataset.source[row], image_size)
    except Exception as error:  # Pillow's formats raise nearly everything
        reason = "no known format" if isinstance(error, UnidentifiedImageError) else error
        raise UserError(
            f"Image {dataset.ids[row]} of {dataset.name} cannot be decoded ({reason}); replace the "
            "file or take it out of the dataset."
        ) from error
