"""Decoding of image files to RGB or gray, as a viewer displays them."""

import io
import stat
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from data.formats.intensity import FULL_RANGE, LARGEST_VALUE, IntensityRange, scale
from data.formats.placement import place
from data.formats.unsupported import FLOATING_POINT, describe_unknown_format
from data.formats.volumes import decode_volume
from lmf_jax.config import ImageSpec

METHOD_VERSION = 2
"""Version of the decoding; increases if the same bytes would give other pixels."""

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Accepted formats. Pillow knows others, and passes some of them to other programs, such as EPS to
Ghostscript. The images of npz files are stored as PPM."""

LARGEST_FILE = 2**30
"""Maximum bytes of an image file: twice the size of the largest image, uncompressed."""

# Large scans are legitimate. Pillow raises an error from twice its limit on.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def decode_image(
    encoded: bytes, spec: ImageSpec, intensity_range: IntensityRange = FULL_RANGE
) -> UInt8[np.ndarray, "*space channels"]:
    """Decode an image to RGB or gray of one size, as a viewer displays it; or a volume.

    The EXIF rotation is applied; grayscale and palette images become RGB; transparent parts are
    blended with white; grayscale of more than 8 bits is scaled from its intensity range. The image
    is resized with antialiased bilinear interpolation; the specification has what happens to its
    aspect ratio. Gray is the luma of RGB (ITU-R 601), which leaves gray values as they are.

    Args:
        encoded: Bytes of an image file in one of :data:`FORMATS`; the first of several frames is
            used. It has at most 179 million pixels (twice Pillow's limit), each of which
            temporarily takes up to 25 bytes of memory.
        spec: Size and channels of the result, and how the image is resized to it.
        intensity_range: Range that maps to black and white in images of more than 8 bits.

    Returns:
        uint8, [height, width, channels]; with a depth in ``spec``, a volume [depth, height, width,
        1] from :func:`data.formats.volumes.decode_volume`.

    Raises:
        Exception: Any exception of Pillow for bytes it cannot decode, such as
            ``DecompressionBombError`` for more pixels, before any is decoded.
    """
    if spec.depth is not None:
        return decode_volume(encoded, spec, intensity_range)
    rgb = open_rgb(encoded, intensity_range)
    image = rgb if spec.channels == 3 else rgb.convert("L")
    resized = place(spec, image.size).resize(image, Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(spec.shape)


def open_rgb(encoded: bytes, intensity_range: IntensityRange = FULL_RANGE) -> Image.Image:
    """Decode an image to RGB in its original size, as :func:`decode_image` before resizing.

    Args:
        encoded: Bytes of an image file in one of :data:`FORMATS`.
        intensity_range: Range that maps to black and white in images of more than 8 bits.

    Raises:
        Exception: Any exception of Pillow for bytes it cannot decode.
    """
    with open_image(encoded) as image:
        return to_rgb(image, intensity_range)


def reason(error: Exception) -> str:
    """Return why an image cannot be read or decoded, in a few words.

    Args:
        error: Exception of :func:`read_encoded` or of Pillow.
    """
    if isinstance(error, FileNotFoundError):
        return "the file is missing"
    if (
        isinstance(error, OSError) and error.strerror
    ):  # without the path, which the message already has
        return error.strerror
    return str(error).rstrip(" .") or type(error).__name__


def open_image(encoded: bytes) -> Image.Image:
    """Open an image without decoding its pixels.

    Args:
        encoded: Bytes of an image file in one of :data:`FORMATS`.

    Raises:
        UnidentifiedImageError: If they have another format, which the message names if known.
        Exception: Any other exception of Pillow for bytes it cannot open.
    """
    try:
        return Image.open(io.BytesIO(encoded), formats=FORMATS)
    except UnidentifiedImageError:  # its message names only a Python object
        raise UnidentifiedImageError(describe_unknown_format(encoded)) from None


def read_encoded(path: Path) -> bytes:
    """Return the bytes of an image file.

    Args:
        path: The file, of at most :data:`LARGEST_FILE` bytes.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is larger or not a regular file: a pipe would block, a device never ends.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is not a regular file")
    if found.st_size > LARGEST_FILE:
        raise ValueError(f"its file has {found.st_size} bytes; expected {LARGEST_FILE} at most")
    return path.read_bytes()


def to_rgb(image: Image.Image, intensity_range: IntensityRange = FULL_RANGE) -> Image.Image:
    """Return an opened image as a viewer displays it, in RGB and in its original size.

    Args:
        image: Image as Pillow opened it; see :func:`decode_image`.
        intensity_range: Range that maps to black and white in images of more than 8 bits.

    Raises:
        Exception: Any exception of Pillow for bytes it cannot decode.
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
    """Return whether an opened image is a TIFF in which 0 is white."""
    tags = getattr(image, "tag_v2", {})
    return tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0


def is_deep(image: Image.Image) -> bool:
    """Return whether an image is grayscale of more than 8 bits."""
    return image.mode.startswith("I")


def _deep_to_rgb(
    image: Image.Image, intensity_range: IntensityRange, white_is_zero: bool
) -> Image.Image:
    """Scale a range to 0..255, where Pillow would clip at 255.

    Pillow inverts images in which 0 is white only up to 8 bits.
    """
    values = np.asarray(image)
    if values.min() < 0 or values.max() > LARGEST_VALUE:
        raise ValueError("its pixels are outside of 0 to 65535; save it with 8 or 16 bits")
    scaled = scale(values, intensity_range)
    if white_is_zero:
        scaled = 255 - scaled
    return Image.fromarray(scaled).convert("RGB")
