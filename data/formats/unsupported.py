"""Reasons why a file cannot be opened as an image."""

import io
import warnings

from PIL import TiffImagePlugin

FLOATING_POINT = "floating-point pixels have no fixed range; save it with 8 or 16 bits"
"""Reason why images with floating-point pixels are rejected."""

SIGNATURES = (
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"version https://git-lfs", "a Git LFS pointer in place of the file"),
    (128, b"DICM", "a DICOM file"),
    (344, b"n+1", "a NIfTI file"),
)
"""Offset and magic bytes of file types often mistaken for images."""


def describe_unknown_format(encoded: bytes) -> str:
    """Return why a file has no supported format, in a few words.

    Args:
        encoded: Bytes of the file.
    """
    if not encoded:
        return "no known format: the file is empty"
    text = encoded[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<"):
        is_page = b"<html" in text or text.startswith(b"<!doctype html")
        return f"it is {'an HTML page' if is_page else 'an XML document'}, not an image"
    for position, signature, kind in SIGNATURES:
        if encoded.startswith(signature, position):
            return f"it is {kind}, not an image"
    if encoded.startswith((b"II*\0", b"MM\0*")):
        return _describe_unknown_tiff(encoded)
    return "no known format"


def _describe_unknown_tiff(encoded: bytes) -> str:
    """Return the type of pixels of a TIFF that Pillow cannot read."""
    try:
        stream = io.BytesIO(encoded)
        with warnings.catch_warnings(action="ignore"):
            tags = TiffImagePlugin.ImageFileDirectory_v2(stream.read(8))
            stream.seek(tags.next)
            tags.load(stream)
            bits = tags[TiffImagePlugin.BITSPERSAMPLE]
            kinds = tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))
            white_is_zero = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    except Exception:  # Pillow raises exceptions of many types
        return "no known format"
    if 3 in kinds:
        return FLOATING_POINT
    inverted = " in which 0 is white" if white_is_zero else ""
    return (
        f"a TIFF of {'+'.join(map(str, bits))} bits per pixel{inverted} cannot be read; save it "
        "with 8 or 16 bits"
    )
