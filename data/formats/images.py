"""From the bytes of an image file to square RGB, as a viewer would show it."""

import io
import stat
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from data.formats.intensity import FULL_RANGE, LARGEST_VALUE, IntensityRange, scale
from data.formats.unsupported import FLOATING_POINT, describe_unknown_format

METHOD_VERSION = 2
"""Goes up whenever :func:`decode_image` turns the same bytes into other pixels."""


FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What an image may be, by its first bytes. Pillow knows more formats, and hands some of them to
other programs, such as EPS to Ghostscript; PPM is how the images of an npz file are kept."""

LARGEST_FILE = 2**30
"""Bytes of an image file: twice those of the largest image, uncompressed."""

# Large scans are no attack. From twice Pillow's limit on it refuses, which is said by name.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def decode_image(
    encoded: bytes, image_size: int, intensity_range: IntensityRange = FULL_RANGE
) -> UInt8[np.ndarray, "image_size image_size 3"]:
    """Decode one image to square RGB, as a viewer would show it.

    The EXIF rotation is applied; gray and palette become RGB; transparent parts are laid on white;
    gray of more than 8 bits is scaled from its intensity range. The image is resized to a square
    with antialiased bilinear interpolation, whatever its aspect ratio.

    Args:
        encoded: The bytes of an image file in one of :data:`FORMATS`; of several frames the first
            is taken. It has at most 179 million pixels (twice Pillow's limit), each of which takes
            up to 25 bytes of memory meanwhile.
        image_size: Height and width of the result, in pixels.
        intensity_range: What becomes black and white of gray of more than 8 bits.

    Returns:
        uint8 RGB, [image_size, image_size, 3].

    Raises:
        Exception: Whatever Pillow raises for bytes it cannot decode, such as
            ``DecompressionBombError`` for more pixels, before one is decoded.
    """
    rgb = open_rgb(encoded, intensity_range)
    return np.asarray(rgb.resize((image_size, image_size), Image.Resampling.BILINEAR))


def open_rgb(encoded: bytes, intensity_range: IntensityRange = FULL_RANGE) -> Image.Image:
    """Decode one image to RGB in its own size, as :func:`decode_image` does before it resizes.

    Args:
        encoded: The bytes of an image file in one of :data:`FORMATS`.
        intensity_range: What becomes black and white of gray of more than 8 bits.

    Raises:
        Exception: Whatever Pillow raises for bytes it cannot decode.
    """
    with open_image(encoded) as image:
        return to_rgb(image, intensity_range)


def reason(error: Exception) -> str:
    """Return why an image cannot be read or decoded, in few words: the same wherever that is said.

    Args:
        error: From :func:`read_encoded`, or what Pillow raised.
    """
    if isinstance(error, FileNotFoundError):
        return "the file is missing"
    if isinstance(error, OSError) and error.strerror:  # without the path, which is said already
        return error.strerror
    return str(error).rstrip(" .") or type(error).__name__


def open_image(encoded: bytes) -> Image.Image:
    """Open an image by its first bytes; its pixels are not decoded yet.

    Args:
        encoded: The bytes of an image file in one of :data:`FORMATS`.

    Raises:
        UnidentifiedImageError: If they have no known format; it says what they are instead.
        Exception: Whatever else Pillow raises for bytes it cannot open.
    """
    try:
        return Image.open(io.BytesIO(encoded), formats=FORMATS)
    except UnidentifiedImageError:  # its message only names a Python object
        raise UnidentifiedImageError(describe_unknown_format(encoded)) from None


def read_encoded(path: Path) -> bytes:
    """Return the bytes of an image file.

    Args:
        path: The file; of :data:`LARGEST_FILE` bytes at most.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is larger, or no file: a pipe would be waited for, a device never ends.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is no file")
    if found.st_size > LARGEST_FILE:
        raise ValueError(f"its file has {found.st_size} bytes; expected {LARGEST_FILE} at most")
    return path.read_bytes()


def to_rgb(image: Image.Image, intensity_range: IntensityRange = FULL_RANGE) -> Image.Image:
    """Return an opened image as a viewer would show it, in RGB and in its own size.

    Args:
        image: What Pillow opened; see :func:`decode_image`.
        intensity_range: What becomes black and white of gray of more than 8 bits.

    Raises:
        Exception: Whatever Pillow raises for bytes it cannot decode.
    """
    white_is_zero = is_white_zero(image)
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError(FLOATING_POINT)
    if is_deep(image):
        return _deep_to_rgb(image, intensity_range, white_is_zero)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def is_white_zero(image: Image.Image) -> bool:
    """Tell whether an image that was opened is a TIFF in which 0 is white."""
    tags = getattr(image, "tag_v2", {})
    return tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0


def is_deep(image: Image.Image) -> bool:
    """Tell whether an image is gray of more than 8 bits."""
    return image.mode.startswith("I")


def _deep_to_rgb(
    image: Image.Image, intensity_range: IntensityRange, white_is_zero: bool
) -> Image.Image:
    """Scale a range to 0..255, where Pillow itself would clip at 255.

    Pillow inverts grays of up to 8 bits where white is zero, and no deeper ones.
    """
    values = np.asarray(image)
    if values.min() < 0 or values.max() > LARGEST_VALUE:
        raise ValueError("its pixels lie outside 0..65535; save it with 8 or 16 bits")
    scaled = scale(values, intensity_range)
    if white_is_zero:
        scaled = 255 - scaled
    return Image.fromarray(scaled).convert("RGB")
