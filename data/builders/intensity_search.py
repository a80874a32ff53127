"""Search for the intensity range of a dataset whose images have more than 8 bits.

Scanners produce 12-bit values, which are stored in files of 16 bits. Mapping the full 16-bit range
to 8 bits would leave 17 of their 4,096 gray levels. The range is therefore 0 to ``2**bits - 1``,
where ``bits`` is what the files declare (PNG's sBIT, TIFF's MaxSampleValue or BitsPerSample) if all
of them declare it and no value needs more, else the bits of the largest value of all images, at
least 8. A declaration of 16 bits counts as none: it is the size of the storage.

Volumes of CT have a unit, and with it one range. Of other volumes each has its own range, since the
values of an MRI differ from scanner to scanner.
"""

import contextlib
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
from jaxtyping import Int64
from PIL import Image, TiffImagePlugin

from data.formats.images import is_deep, open_image, to_rgb
from data.formats.intensity import (
    EACH_VOLUME,
    FULL_RANGE,
    HOUNSFIELD,
    LARGEST_VALUE,
    Intensities,
    IntensityRange,
)
from data.formats.volumes import read_values
from data.sources import ImageSource

_MAX_SAMPLE_VALUE = 281

AIR = -500
"""Value below which a volume has air in Hounsfield units; other modalities have no such values."""

HOUNSFIELD_RANGE = IntensityRange(-1000, 1000)
"""Range of CT: from air to dense bone."""


@dataclass
class IntensityCounts:
    """Histogram of the values in images of more than 8 bits; threads may add to it.

    Attributes:
        counts: Pixels of each value.
        images: Number of images of more than 8 bits.
        declared: Largest declared number of bits so far, 0 before the first image; None as soon as
            one file declares nothing.
    """

    counts: Int64[np.ndarray, " values"] = field(
        default_factory=lambda: np.zeros(LARGEST_VALUE + 1, np.int64)
    )
    images: int = 0
    declared: int | None = 0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def decode(self, encoded: bytes) -> Image.Image:
        """Decode an image to RGB, and count its values if it has more than 8 bits.

        Args:
            encoded: Bytes of the file.

        Raises:
            Exception: Whatever Pillow raises for bytes it cannot decode.
        """
        with open_image(encoded) as image:
            bits = declared_bits(image, encoded)
            rgb = to_rgb(image)
            if is_deep(image):
                self._add(np.asarray(image), bits)
        return rgb

    def _add(self, values: np.ndarray, bits: int | None) -> None:
        counts = np.bincount(values.ravel(), minlength=LARGEST_VALUE + 1)
        with self._lock:
            self.counts += counts
            self.images += 1
            known = bits is not None and self.declared is not None
            self.declared = max(self.declared or 0, bits or 0) if known else None

    def find(self) -> Intensities | None:
        """Return the range and its source, or None if no image has more than 8 bits."""
        if not self.images:
            return None
        largest = int(self.counts.nonzero()[0][-1])
        below = np.cumsum(self.counts)
        low, high = np.searchsorted(below, [below[-1] * 0.0005, below[-1] * 0.9995]).tolist()
        bits, source = max(8, largest.bit_length()), "bits in use"
        if self.declared is not None and bits <= self.declared:
            bits, source = self.declared, "bits declared by the files"
        return Intensities(0, 2**bits - 1, source, self.images, largest, (low, high))


@dataclass
class VolumeCounts:
    """Smallest values of volumes; threads may add to it.

    Attributes:
        lowest: Smallest value of each volume.
    """

    lowest: list[float] = field(default_factory=list)

    def decode(self, encoded: bytes) -> None:
        """Read a volume, and add its smallest value.

        Args:
            encoded: Bytes of the file.

        Raises:
            UserError: If it cannot be read.
        """
        self.lowest.append(float(read_values(encoded).min()))

    def find(self) -> Intensities:
        """Return :data:`HOUNSFIELD_RANGE` if most volumes are CT, else the rule of each volume."""
        is_ct = np.median(self.lowest) <= AIR
        low, high = HOUNSFIELD_RANGE if is_ct else FULL_RANGE
        source = HOUNSFIELD if is_ct else EACH_VOLUME
        return Intensities(low, high, source, len(self.lowest), high, (low, high))


def declared_bits(image: Image.Image, encoded: bytes) -> int | None:
    """Return the number of significant bits (9 to 15) that the file declares, or None.

    Args:
        image: Image as Pillow opened it.
        encoded: Bytes of the file.
    """
    if image.format == "PNG":
        bits = _significant_bits(encoded)
    else:
        tags = getattr(image, "tag_v2", {})
        declared = tags.get(_MAX_SAMPLE_VALUE, 0), tags.get(TiffImagePlugin.BITSPERSAMPLE, 0)
        largest, depth = (int(np.max(value, initial=0)) for value in declared)
        bits = largest.bit_length() or depth
    return bits if 8 < bits < 16 else None


def _significant_bits(encoded: bytes) -> int:
    """Return the number in the sBIT chunk of a grayscale PNG, or 0 if there is none."""
    position = 8
    while position + 8 < len(encoded):
        length, kind = struct.unpack_from(">I4s", encoded, position)
        if kind == b"IDAT":
            break
        if kind == b"sBIT":
            return encoded[position + 8]
        position += 12 + length
    return 0


def count_intensities(source: ImageSource) -> IntensityCounts:
    """Count the values of images; one that cannot be decoded is skipped.

    Args:
        source: Encoded images.
    """
    counts = IntensityCounts()

    def add(row: int) -> None:
        encoded = source[row]
        with contextlib.suppress(Exception):  # Pillow raises exceptions of many types
            with open_image(encoded) as image:
                deep = is_deep(image)
            if deep:
                counts.decode(encoded)

    with ThreadPoolExecutor() as pool:
        list(pool.map(add, range(len(source))))
    return counts
