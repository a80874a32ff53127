"""Size of an image in compressed data, read from its first markers without decoding it."""

import struct
from typing import NamedTuple

_START_OF_IMAGE = b"\xff\xd8"
_NOT_FRAMES = (0xC4, 0xC8, 0xCC)
"""Markers from C0 to CF that are not the start of a frame: tables and extensions."""

_JPEG_LS_FRAME = 0xF7
_MOST_MARKERS = 1000


class Frame(NamedTuple):
    """Size of the image in a codestream.

    Attributes:
        width: Pixels of a row.
        height: Number of rows.
        samples: Samples of a pixel.
        bits: Bits of a sample.
    """

    width: int
    height: int
    samples: int
    bits: int


def read_frame(codestream: bytes, *, is_jpeg_2000: bool) -> Frame | None:
    """Return the size of the image in a codestream; None if it has no valid beginning.

    Args:
        codestream: JPEG (ITU-T T.81), JPEG-LS (T.87) or JPEG 2000 (T.800).
        is_jpeg_2000: Whether it is JPEG 2000.
    """
    try:
        return _jpeg_2000_size(codestream) if is_jpeg_2000 else _jpeg_size(codestream)
    except struct.error:  # it ends too early
        return None


def _jpeg_2000_size(codestream: bytes) -> Frame | None:
    """Read the SIZ marker segment, which is the first (T.800, A.5.1)."""
    if not codestream.startswith(b"\xff\x4f\xff\x51"):
        return None
    right, bottom, left, top = struct.unpack_from(">4I", codestream, 8)
    samples, depth = struct.unpack_from(">HB", codestream, 40)
    return Frame(right - left, bottom - top, samples, depth % 128 + 1)


def _jpeg_size(codestream: bytes) -> Frame | None:
    """Read the start of the frame, after any other marker segments (T.81, B.2.2)."""
    if not codestream.startswith(_START_OF_IMAGE):
        return None
    position = 2
    for _ in range(_MOST_MARKERS):
        prefix, marker, length = struct.unpack_from(">BBH", codestream, position)
        if prefix != 0xFF:
            return None
        if marker == 0xFF:  # fill bytes may precede a marker
            position += 1
            continue
        is_frame = 0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES
        if is_frame or marker == _JPEG_LS_FRAME:
            bits, height, width, samples = struct.unpack_from(">BHHB", codestream, position + 4)
            return Frame(width, height, samples, bits)
        position += 2 + length
    return None
