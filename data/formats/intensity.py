"""Intensity range of volumes, and of images of more than 8 bits, which is scaled to 0..255."""

import functools
import hashlib
import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8

from data.storage import replacing
from lmf_jax.errors import UserError
from lmf_jax.json_text import parse_json

LOWEST_VALUE = -32768
"""Lowest end of a range; only volumes have negative values."""

LARGEST_VALUE = 65535
"""Largest value of an image of 16 bits."""

INTENSITY_FILE = "intensity.json"
"""File of the range of a prepared dataset; ``null`` if no image has more than 8 bits."""

FEW_LEVELS = 64
"""Number of gray levels, of 256, below which a remark is printed."""

_FIELDS = ("low", "high", "source", "images", "largest", "used")
HOUNSFIELD = "Hounsfield units"
EACH_VOLUME = "each volume"
GIVEN_FOR_VOLUMES = "given for volumes"
_VOLUME_SOURCES = (HOUNSFIELD, EACH_VOLUME, GIVEN_FOR_VOLUMES)
_SOURCES = ("bits in use", "bits declared by the files", "given", *_VOLUME_SOURCES)


class IntensityRange(NamedTuple):
    """Values that become black and white.

    Attributes:
        low: Value that becomes 0, as all below it.
        high: Value that becomes 255, as all above it.
    """

    low: int
    high: int

    def __str__(self) -> str:
        return f"{self.low},{self.high}"


FULL_RANGE = IntensityRange(0, LARGEST_VALUE)
"""Range of 16-bit images without a recorded range. Volumes without one have each its own, see
:func:`data.formats.volumes.read_volume`."""


def checked_range(low: int, high: int) -> IntensityRange:
    """Check and return a range.

    Args:
        low: Value that becomes black.
        high: Value that becomes white.

    Raises:
        ValueError: Unless ``LOWEST_VALUE <= low < high <= LARGEST_VALUE``.
    """
    if not LOWEST_VALUE <= low < high <= LARGEST_VALUE:
        raise ValueError(
            f"expected an intensity range {LOWEST_VALUE} <= LOW < HIGH <= {LARGEST_VALUE}"
        )
    return IntensityRange(low, high)


def parse_range(text: str) -> IntensityRange:
    """Parse ``LOW,HIGH``.

    Args:
        text: Value of the flag.

    Raises:
        UserError: If it is not an intensity range.
    """
    numbers = re.fullmatch(r"\s*(-?\d{1,6})\s*,\s*(-?\d{1,6})\s*", text, re.ASCII)
    try:
        if numbers is None:
            raise ValueError("it is not two whole numbers with a comma between them")
        return checked_range(int(numbers[1]), int(numbers[2]))
    except ValueError:
        raise UserError(
            f"--intensity-range is {text!r}; expected LOW,HIGH, two whole numbers from "
            f"{LOWEST_VALUE} to {LARGEST_VALUE}, such as 0,4095."
        ) from None


def recorded_range(value: object) -> IntensityRange | None:
    """Return the range that a run recorded, or None if it recorded none.

    Args:
        value: Value from JSON: None, or low and high.

    Raises:
        ValueError: If it is anything else.
    """
    if value is None:
        return None
    if not isinstance(value, list) or [type(number) for number in value] != [int, int]:
        raise ValueError("expected an intensity range of two whole numbers")
    return checked_range(*value)


def scale(
    values: Shaped[np.ndarray, "*shape"], intensity_range: IntensityRange
) -> UInt8[np.ndarray, "*shape"]:
    """Scale intensities to 0..255: ``round(255 * (value - low) / (high - low))``, clipped.

    Args:
        values: Whole numbers from 0 to :data:`LARGEST_VALUE`, of any integer type.
        intensity_range: Range that maps to 0 and 255.
    """
    return _table(intensity_range)[values]


@functools.lru_cache(maxsize=8)
def _table(intensity_range: IntensityRange) -> UInt8[np.ndarray, " values"]:
    low, high = intensity_range
    values = np.clip(np.arange(LARGEST_VALUE + 1, dtype=np.int64), low, high) - low
    return ((510 * values + high - low) // (2 * (high - low))).astype(np.uint8)


def fingerprint_with_range(fingerprint: str, intensity_range: IntensityRange) -> str:
    """Return the fingerprint of data with an intensity range.

    Args:
        fingerprint: SHA-256, in hex, over the data; unchanged for :data:`FULL_RANGE`.
        intensity_range: Range that maps to black and white.
    """
    if intensity_range == FULL_RANGE:
        return fingerprint
    return hashlib.sha256(f"{fingerprint} intensities {intensity_range}".encode()).hexdigest()


@dataclass(frozen=True)
class Intensities:
    """Intensity range of a dataset and its source.

    Attributes:
        low: Value that becomes 0.
        high: Value that becomes 255.
        source: "bits in use", "bits declared by the files" or "given"; of volumes,
            :data:`HOUNSFIELD`, :data:`EACH_VOLUME` (each by its own range) or
            :data:`GIVEN_FOR_VOLUMES`.
        images: Number of volumes, or of images of more than 8 bits.
        largest: Largest value in these images.
        used: Range of the central 99.9 % of their pixels.
    """

    low: int
    high: int
    source: str
    images: int
    largest: int
    used: tuple[int, int]

    @property
    def range(self) -> IntensityRange:
        """Values that map to 0 and 255."""
        return IntensityRange(self.low, self.high)

    @property
    def line(self) -> str:
        """Line of text with the range and its source."""
        if self.source == EACH_VOLUME:
            return (
                f"{self.images:,} volumes without Hounsfield units: 0 to 255 are the percentiles "
                "0.5 and 99.5 of each volume"
            )
        if self.source in _VOLUME_SOURCES:
            origin = "as given" if self.source == GIVEN_FOR_VOLUMES else "in Hounsfield units"
            return (
                f"intensities {self.low} to {self.high} of {self.images:,} volumes become 0 to 255 "
                f"({origin})"
            )
        is_given = self.source == "given"
        origin = "as given" if is_given else f"{self.high.bit_length()} {self.source}"
        text = (
            f"intensities {self.low} to {self.high} of {self.images:,} images of 16 bits become 0 "
            f"to 255 ({origin}; the largest is {self.largest})"
        )
        used = np.clip(self.used, self.low, self.high)
        levels = round(255 * (int(used[1]) - int(used[0])) / (self.high - self.low)) + 1
        if levels < min(FEW_LEVELS, self.used[1] - self.used[0] + 1):
            text += (
                f"; 99.9 % of the pixels are in {self.used[0]} to {self.used[1]} and share "
                f"{levels} of 256 gray levels; python -m data prepare keeps more of them by "
                f"--intensity-range {self.used[0]},{self.used[1]}"
            )
        return text


def with_range(
    found: Intensities | None, given: IntensityRange | None, name: str
) -> Intensities | None:
    """Return intensities with the range that the user gave, if any.

    Args:
        found: Intensities of the images.
        given: Range of the user; None keeps the found one.
        name: Name of the dataset, for the error.

    Raises:
        UserError: If a range is given and no image has more than 8 bits.
    """
    if given is None:
        return found
    if found is None:
        raise UserError(
            f"No image of {name} has more than 8 bits; leave --intensity-range {given} out."
        )
    source = GIVEN_FOR_VOLUMES if found.source in _VOLUME_SOURCES else "given"
    return replace(found, low=given.low, high=given.high, source=source)


def write_intensities(folder: Path, found: Intensities | None) -> None:
    """Record intensities in the folder of a prepared dataset.

    Args:
        folder: The folder.
        found: Intensities to record.
    """
    content = None if found is None else asdict(found)
    with replacing(folder / INTENSITY_FILE) as file:
        file.write(json.dumps(content).encode() + b"\n")


def read_intensities(folder: Path) -> Intensities | None:
    """Return the intensities recorded in a folder, or None if there are none.

    Args:
        folder: Folder of a prepared dataset.

    Raises:
        ValueError: If the record is invalid.
        OSError: If it cannot be read.
    """
    path = folder / INTENSITY_FILE
    if not path.exists():
        return None
    content: Any = parse_json(path.read_bytes())
    if content is None:
        return None
    try:
        low, high, source, images, largest, (first, last) = (content[key] for key in _FIELDS)
        numbers = low, high, images, largest, first, last
        if source not in _SOURCES or any(type(number) is not int for number in numbers):
            raise ValueError("invalid number or source")
        checked_range(low, high)
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{INTENSITY_FILE} holds no intensity range") from error
    return Intensities(low, high, source, images, largest, (first, last))
