"""PNG files: uncompressed images for datasets, and predicted masks with a color per class."""

import colorsys
import io
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image

from data.formats.masks import MOST_CLASSES
from data.storage import replacing

OKABE_ITO = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
"""Colors of the classes 1 to 7, distinguishable with color blindness."""


def _spread_colors(count: int) -> tuple[tuple[int, int, int], ...]:
    """Return distinct colors, neither black nor white, with hues a golden angle apart."""
    hues = [i * 0.618034 % 1 for i in range(count)]
    colors = [colorsys.hsv_to_rgb(hue, 0.5 + i % 3 / 4, 0.9) for i, hue in enumerate(hues)]
    return tuple((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in colors)


PALETTE = ((0, 0, 0), *OKABE_ITO, *_spread_colors(MOST_CLASSES - 1 - len(OKABE_ITO)))
"""Color of every class id: black for the background.

Pillow stores as many bits per pixel as the palette needs, so a shorter one would truncate class
ids. White does not occur, since the reader takes a black and white mask for one of two classes.
"""


def encode_png(pixels: UInt8[np.ndarray, "height width *channels"]) -> bytes:
    """Encode gray values, class ids or RGB as an uncompressed PNG.

    Its bytes, which the fingerprint of a dataset covers, do not depend on the compression library.

    Args:
        pixels: Values from 0 to 255; three channels for RGB.
    """
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="png", compress_level=0)
    return file.getvalue()


def save_mask(ids: Integer[np.ndarray, "height width"], path: Path) -> None:
    """Write class ids as a PNG whose palette indices are the ids.

    Args:
        ids: Class of every pixel, below :data:`data.formats.masks.MOST_CLASSES`.
        path: File to write.
    """
    mask = Image.fromarray(ids.astype(np.uint8))
    mask.putpalette([channel for color in PALETTE for channel in color])
    with replacing(path) as file:
        mask.save(file, format="png")
