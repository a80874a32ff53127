"""Decoding of masks to class ids.

A mask is an image of class ids, or of two classes in black and white. Its stored values count, not
its appearance: they are not interpolated, and colors do not encode classes.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Int64, Shaped, UInt8
from PIL import Image, ImageOps

from data.formats.images import is_white_zero, open_image, reason
from data.formats.placement import place
from data.sources import ImageSource
from lmf_jax.config import ImageSpec
from lmf_jax.errors import UserError

MASK_VERSION = 2
"""Version of the decoding; increases if the same bytes would give other classes."""

MOST_CLASSES = 256
"""Maximum number of classes: the values of a byte."""

BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def decode_mask(
    encoded: bytes, spec: ImageSpec, num_classes: int
) -> UInt8[np.ndarray, "height width"]:
    """Decode a mask to class ids in one size, aligned with ``decode_image``.

    Every pixel gets the class at its center; the pixels of the resized image have the same centers.
    Padding is the background.

    Args:
        encoded: Bytes of a file in one of ``formats.images.FORMATS``; see :func:`read_mask`.
        spec: Size of the result, and how the mask is resized to it.
        num_classes: Number of classes; see :func:`class_ids`.

    Returns:
        uint8 class ids, [height, width].

    Raises:
        Exception: Any exception of Pillow for bytes it cannot decode.
        ValueError: If it is not a mask of this number of classes.
    """
    mask = Image.fromarray(class_ids(read_mask(encoded), num_classes))
    return np.asarray(place(spec, mask.size).resize(mask, Image.Resampling.NEAREST))


def read_mask(encoded: bytes) -> UInt8[np.ndarray, "height width"]:
    """Return the value of every pixel of a mask in its original size, with EXIF rotation.

    The value is the stored gray value or the index into the palette, so a TIFF whose
    PhotometricInterpretation is WhiteIsZero has the same class ids as any other. If a mask uses
    only black and white, the color counts, since programs differ in which of them is 0.

    Args:
        encoded: Bytes of a file in one of ``formats.images.FORMATS``, of at most 179 million
            pixels; the first of several frames is used.

    Raises:
        Exception: Any exception of Pillow for bytes it cannot decode.
        ValueError: If it has colors, is transparent, or has values above 255.
    """
    with open_image(encoded) as opened:
        step, white_is_zero = _gray_step(opened), is_white_zero(opened)
        image = ImageOps.exif_transpose(opened)
        if image.mode == "P":
            return _indices_or_black_and_white(image)
        if image.mode.startswith("I"):
            return _bytes_of(np.asarray(image))
        if image.mode not in ("1", "L", "RGB", "LA", "RGBA"):
            found = "F, floating point" if image.mode == "F" else image.mode
            raise ValueError(f"a mask is gray or has a palette, and this is {found}")
        if image.mode == "1":
            return np.asarray(image.convert("L"))
        if image.mode == "L":
            return _stored_or_black_and_white(np.asarray(image), step, white_is_zero)
        channels = np.asarray(image.convert("RGBA"))
    if np.any(channels[..., 3] != 255):
        raise ValueError("a mask is opaque, and this is transparent in places")
    if np.any(channels[..., :1] != channels[..., 1:3]):
        raise ValueError("a mask is gray or has a palette, and this is in color")
    return channels[..., 0].copy()


def _gray_step(image: Image.Image) -> int:
    """Return the factor by which Pillow scales gray values of fewer than 8 bits to 0..255."""
    tiles = getattr(image, "tile", ())  # present until the pixels are decoded
    arguments = tiles[0].args if tiles else None
    rawmode = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return {"L;2": 85, "L;4": 17}.get(str(rawmode)[:3], 1)


def _stored_or_black_and_white(
    shown: UInt8[np.ndarray, "height width"], step: int, white_is_zero: bool
) -> UInt8[np.ndarray, "height width"]:
    """Undo Pillow's conversion of gray values, unless they are only black and white.

    Zeros alone are the background, as with class ids.
    """
    stored = (255 - shown if white_is_zero else shown) // step
    is_black_and_white = np.isin(shown, (0, 255)).all() and stored.any()
    return shown if is_black_and_white else stored


def _indices_or_black_and_white(image: Image.Image) -> UInt8[np.ndarray, "height width"]:
    indices = np.asarray(image)
    used = np.unique(indices).tolist()
    palette = image.getpalette("RGB") or []
    colors = [tuple(palette[3 * index : 3 * index + 3]) for index in used]
    if len(set(colors)) < len(used) or not {BLACK, WHITE}.issuperset(colors):
        return indices
    table = np.zeros(256, np.uint8)
    table[used] = [color[0] for color in colors]
    return table[indices]


def _bytes_of(values: np.ndarray) -> UInt8[np.ndarray, "height width"]:
    """Return 16-bit values as bytes; raise ``ValueError`` if they do not fit."""
    narrow = np.clip(values, 0, 255).astype(np.uint8)
    if np.any(narrow != values):
        raise ValueError(f"its values reach from {values.min()} to {values.max()}, not 0 to 255")
    return narrow


def class_ids(
    values: UInt8[np.ndarray, "height width"], num_classes: int
) -> UInt8[np.ndarray, "height width"]:
    """Return the class of every pixel of a mask.

    A mask of two classes may be black and white instead; values from 128 are then the foreground,
    which includes the gray edges of masks that were resized.

    Args:
        values: Result of :func:`read_mask`.
        num_classes: Number of classes.

    Raises:
        ValueError: If a value is not a class id.
    """
    largest = int(values.max())
    if num_classes == 2 and largest >= 128:
        return (values >= 128).astype(np.uint8)
    if largest >= num_classes:
        black_and_white = ", or 0 and 255" if num_classes == 2 else ""
        raise ValueError(
            f"its values are {format_values(np.unique(values).tolist())}; expected 0 to "
            f"{num_classes - 1}{black_and_white}"
        )
    return values


def count_mask_pixels(
    masks: ImageSource, ids: Shaped[np.ndarray, " n"], num_classes: int
) -> Int64[np.ndarray, "n num_classes"]:
    """Return the number of pixels of each class in every mask, in its original size.

    Args:
        masks: Encoded masks.
        ids: Name of every image, unicode [n].
        num_classes: Number of classes.

    Raises:
        UserError: If a mask cannot be read or decoded.
    """

    def count(row: int) -> Int64[np.ndarray, " num_classes"]:
        encoded = masks[row]
        try:
            pixels = class_ids(read_mask(encoded), num_classes)
        except Exception as error:  # Pillow raises exceptions of many types
            raise UserError(
                f"Mask {ids[row]} cannot be decoded ({reason(error)}); replace its file and "
                "prepare the dataset again."
            ) from error
        return np.bincount(pixels.ravel(), minlength=num_classes)

    with ThreadPoolExecutor() as pool:
        counts = list(pool.map(count, range(len(ids))))
    return np.array(counts, np.int64).reshape(-1, num_classes)


def format_values(values: Sequence[int]) -> str:
    """Return values as text; of many, the first and the last.

    Args:
        values: Values in ascending order.
    """
    shown = [str(value) for value in values]
    if len(shown) > 10:
        shown = [*shown[:4], "...", shown[-1], f"{len(values)} in all"]
    return ", ".join(shown)
