"""PNG files whose bytes depend on the pixels alone."""

import struct
import zlib

import numpy as np
from jaxtyping import UInt8

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2
_BITS = 8
_ZLIB_HEADER = b"\x78\x01"
_LARGEST_BLOCK = 0xFFFF


def encode_png(pixels: UInt8[np.ndarray, "height width *channels"]) -> bytes:
    """Encodes one image as a PNG, without loss.

    Nothing is compressed, and the file is put together here: compression libraries differ in their
    output, from 64 KiB on even where they only store, and the fingerprint of a dataset covers its
    encoded bytes.

    Args:
        pixels: Grey [height, width] or RGB [height, width, 3].

    Returns:
        The PNG file. Its bytes are the same on every machine.

    Reference:
        ISO/IEC 15948 (PNG), RFC 1950 (zlib), RFC 1951 section 3.2.4 (stored blocks).
    """
    height, width = pixels.shape[:2]
    lines = np.zeros((height, 1 + pixels[0].size), np.uint8)  # each begins with its filter: none
    lines[:, 1:] = pixels.reshape(height, -1)
    color = _GREY if pixels.ndim == 2 else _RGB
    header = struct.pack(">IIBBBBB", width, height, _BITS, color, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", _stored(lines.tobytes())), (b"IEND", b"")
    return _SIGNATURE + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _stored(content: bytes) -> bytes:
    """Wraps bytes as a zlib stream of stored blocks."""
    pieces = [_ZLIB_HEADER]
    for start in range(0, len(content), _LARGEST_BLOCK):
        block = content[start : start + _LARGEST_BLOCK]
        is_last = start + len(block) == len(content)
        pieces += [struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF), block]
    return b"".join(pieces) + struct.pack(">I", zlib.adler32(content))
