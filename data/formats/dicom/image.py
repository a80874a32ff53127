"""Decoding of a DICOM file with one frame to an image, as a viewer displays it."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Integer, UInt8

from data.formats.dicom.file import DicomError, read_elements, without_details
from data.formats.dicom.lookup import palette_colors
from data.formats.dicom.pixels import PIXEL_ELEMENTS, StoredImage, read_stored
from data.formats.dicom.rendering import RENDERING_ELEMENTS, read_rendering

if TYPE_CHECKING:
    from pydicom import Dataset

_PALETTE_ELEMENTS = tuple(
    f"{color}PaletteColorLookupTable{part}"
    for color in ("Red", "Green", "Blue")
    for part in ("Descriptor", "Data")
)


def decode_dicom(encoded: bytes) -> UInt8[np.ndarray, "height width *channels"]:
    """Decode a DICOM file to gray values or RGB, as a viewer displays it.

    Grayscale goes through the modality LUT, the first VOI LUT or the first window, and to 0..255
    (PS3.3, C.11.1 and C.11.2). Without a window, the range of the values becomes 0..255. Padding
    is black and does not count for that range. MONOCHROME1 and the presentation LUT shape INVERSE
    are inverted, once. Color becomes RGB of 8 bits. Overlays, the aspect ratio of pixels and the
    orientation of the patient are not used.

    Args:
        encoded: Bytes of a DICOM file with one frame.

    Returns:
        uint8 [height, width], or RGB [height, width, 3] of a color image.

    Raises:
        DicomError: If the file is damaged, has no image, several frames or an unknown kind of
            pixels, claims too many of them, or needs a decoder that is not installed.
        MissingPackageError: If pydicom is not installed.
    """
    keywords = (*PIXEL_ELEMENTS, *RENDERING_ELEMENTS, *_PALETTE_ELEMENTS)
    dataset = read_elements(encoded, keywords, pixels=True)
    stored = read_stored(dataset)
    if stored.values.ndim == 3:
        return _to_8_bits(stored)
    if stored.photometric == "PALETTE COLOR":
        return _apply_palette(dataset, stored)
    with without_details("its window or look-up tables are damaged"):
        rendering = read_rendering(dataset, stored)
        return rendering.render(stored.values)


def _to_8_bits(stored: StoredImage) -> UInt8[np.ndarray, "height width 3"]:
    if stored.values.min() < 0:
        raise DicomError("its colors are signed numbers; expected unsigned ones")
    if stored.bits == 8:
        return stored.values.astype(np.uint8)
    return _scaled(stored.values, 2**stored.bits - 1)


def _apply_palette(dataset: "Dataset", stored: StoredImage) -> UInt8[np.ndarray, "height width 3"]:
    with without_details("its palette is damaged"):
        colors, most = palette_colors(dataset, stored)
        return _scaled(colors, most)


def _scaled(values: Integer[np.ndarray, "*shape"], most: int) -> UInt8[np.ndarray, "*shape"]:
    """Return ``round(255 * value / most)``, clipped at 255."""
    wide = values.astype(np.uint64)
    return np.minimum((510 * wide + most) // (2 * most), 255).astype(np.uint8)
