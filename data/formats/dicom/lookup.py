"""Look-up tables of DICOM: modality and VOI LUTs, and palettes (PS3.3, C.11 and C.7.6.3.1.5).

pydicom's functions compute indices in the type of the entries, so values above 255 wrap in tables
of 8 bits. These clip as the standard says.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, Integer, Real

from data.formats.dicom.file import DicomError
from data.formats.dicom.pixels import StoredImage

if TYPE_CHECKING:
    from pydicom import Dataset

_MOST_ENTRIES = 2**16


@dataclass(frozen=True, eq=False)
class LookupTable:
    """Look-up table.

    Attributes:
        first: Value that the first entry is for; smaller ones get it too, and larger ones than
            the table has get the last.
        entries: Results.
        most: Largest number that the bits of an entry can hold.
    """

    first: int
    entries: Float64[np.ndarray, " entries"]
    most: int

    def __call__(self, values: Real[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
        """Return the entry of every value, rounded to a whole number before."""
        index = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1)
        found: Float64[np.ndarray, "*shape"] = self.entries[index.astype(np.int64)]
        return found


def read_table(
    descriptor: Any, content: Any, *, is_signed: bool, is_little_endian: bool
) -> LookupTable:
    """Return a look-up table.

    Args:
        descriptor: LUT Descriptor: number of entries (0 is 65536), first value, bits of an entry.
        content: LUT Data: bytes, or numbers of 16 bits.
        is_signed: Whether the values to look up may be negative.
        is_little_endian: Order of the bytes.

    Raises:
        DicomError: If the table is missing or shorter than its descriptor says.
    """
    if descriptor is None or content is None or len(descriptor) != 3:
        raise DicomError("a look-up table of its header is incomplete")
    count, first, bits = (int(number) for number in descriptor)
    count = count % _MOST_ENTRIES or _MOST_ENTRIES
    if is_signed and first >= 2**15:  # written with the unsigned type
        first -= 2**16
    if not 8 <= bits <= 16:
        raise DicomError(f"a look-up table of its header has {bits} bits; expected 8 to 16")
    if isinstance(content, bytes):
        is_packed = len(content) in (count, count + count % 2)
        dtype = "u1" if is_packed else "<u2" if is_little_endian else ">u2"
        size = np.dtype(dtype).itemsize
        numbers = np.frombuffer(content[: len(content) // size * size], dtype)
    else:
        numbers = np.array(content, np.int64).reshape(-1) % _MOST_ENTRIES
    if len(numbers) < count:
        raise DicomError(
            f"a look-up table of its header has {len(numbers)} entries; expected {count}"
        )
    return LookupTable(first, numbers[:count].astype(np.float64), 2**bits - 1)


def palette_colors(
    dataset: "Dataset", stored: StoredImage
) -> tuple[Integer[np.ndarray, "height width 3"], int]:
    """Return the color of every value, and the largest number that a color can have.

    Args:
        dataset: Header of a file with PALETTE COLOR.
        stored: Its values.

    Raises:
        DicomError: If a table of the palette is missing, segmented or damaged.
    """
    channels = []
    most = 255
    for color in ("Red", "Green", "Blue"):
        name = f"{color}PaletteColorLookupTable"
        content = dataset.get(f"{name}Data")
        if content is None:
            raise DicomError("its palette is missing or segmented; save the image as RGB")
        table = read_table(
            dataset.get(f"{name}Descriptor"),
            content,
            is_signed=stored.is_signed,
            is_little_endian=stored.is_little_endian,
        )
        most = max(most, table.most)
        channels.append(table(stored.values).astype(np.int64))
    return np.stack(channels, axis=-1), most
