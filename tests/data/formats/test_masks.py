"""Masks come out as the classes that were meant, in line with their images, or are refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from data.formats.images import decode_image
from data.formats.masks import class_ids, decode_mask, format_values, read_mask
from lmf_jax.config import ImageSpec


def encode(image: Image.Image | np.ndarray, format: str = "png", **options) -> bytes:
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, format=format, **options)
    return file.getvalue()


def with_palette(indices: np.ndarray, palette: list[int]) -> Image.Image:
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette(palette)
    assert image.mode == "P"
    return image


CLASSES = np.array([[0, 1, 2], [3, 2, 1]], np.uint8)
BINARY = CLASSES % 2
COLORS = [0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200]
INVERTED_GRAYS = [gray for index in range(256) for gray in 3 * [255 - index]]

CLASS_MASKS = {
    "gray": encode(CLASSES),
    "a palette of colors": encode(with_palette(CLASSES, COLORS)),
    "a palette of grays": encode(with_palette(CLASSES, [0] * 3 + [80] * 3 + [160] * 3 + [255] * 3)),
    "a palette that is all black": encode(with_palette(CLASSES, [0] * 12)),
    "a gif": encode(with_palette(CLASSES, COLORS), "gif"),
    "RGB of grays": encode(np.repeat(CLASSES[..., None], 3, axis=2)),
    "opaque gray": encode(Image.fromarray(CLASSES).convert("LA")),
    "16-bit gray": encode(CLASSES.astype(np.uint16)),
    "32-bit integers": encode(Image.fromarray(CLASSES.astype(np.int32)), "tiff"),
}


@pytest.mark.parametrize("encoded", CLASS_MASKS.values(), ids=CLASS_MASKS.keys())
def test_class_ids_are_the_grays_or_the_indices(encoded: bytes) -> None:
    values = read_mask(encoded)
    assert values.dtype == np.uint8
    np.testing.assert_array_equal(class_ids(values, 4), CLASSES)


def packed(values: np.ndarray, bits: int) -> bytes:
    """Pack values of 2 or 4 bits, each row from a new byte."""
    width = -(-values.shape[1] * bits // 8) * 8
    rows = np.zeros((len(values), width), np.uint8)
    of_bits = np.unpackbits(values[..., None], axis=2)[..., -bits:]
    rows[:, : values.shape[1] * bits] = of_bits.reshape(len(values), -1)
    return np.packbits(rows, axis=1).tobytes()


def tiff(values: np.ndarray, bits: int, photometric: int) -> bytes:
    """Write what these values are stored as; Pillow inverts some of them when it saves."""
    pixels = packed(values, bits) if bits < 8 else values.astype(f"<u{bits // 8}").tobytes()
    height, width = values.shape
    tags = [
        (256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8),
        (277, 1), (278, height), (279, len(pixels)),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    start = 8 + len(pixels)
    return (
        b"II*\0"
        + struct.pack("<I", start)
        + pixels
        + struct.pack("<H", len(tags))
        + entries
        + bytes(4)
    )


def small_png(values: np.ndarray, bits: int) -> bytes:
    """Write a gray PNG of fewer than 8 bits per pixel."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    height, width = values.shape
    rows = packed(values, bits)
    stride = len(rows) // height
    filtered = b"".join(b"\0" + rows[y * stride : (y + 1) * stride] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(filtered))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("photometric", [0, 1], ids=["white is 0", "black is 0"])
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_class_ids_of_a_tiff_are_what_it_stores(bits: int, photometric: int) -> None:
    np.testing.assert_array_equal(read_mask(tiff(CLASSES, bits, photometric)), CLASSES)
    empty = np.zeros_like(CLASSES)
    np.testing.assert_array_equal(read_mask(tiff(empty, bits, photometric)), empty)
    np.testing.assert_array_equal(read_mask(tiff(empty + 1, bits, photometric)), empty + 1)


@pytest.mark.parametrize("bits", [2, 4])
def test_class_ids_of_a_png_of_few_bits_are_what_it_stores(bits: int) -> None:
    np.testing.assert_array_equal(read_mask(small_png(CLASSES, bits)), CLASSES)


def test_all_class_ids_are_kept_where_white_is_zero() -> None:
    ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(read_mask(tiff(ids, 8, 0)), ids)
    np.testing.assert_array_equal(read_mask(tiff(ids, 16, 0)), ids)


BINARY_MASKS = {
    "0 and 255": encode(BINARY * 255),
    "0 and 1": encode(BINARY),
    "one bit": encode(Image.fromarray(BINARY.astype(bool))),
    "one bit, white is 0": encode(Image.fromarray(BINARY.astype(bool)), "tiff", tiffinfo={262: 0}),
    "8 bits, white is 0": tiff(255 - 255 * BINARY, 8, 0),
    "2 bits in black and white": small_png(3 * BINARY, 2),
    "4 bits in black and white, white is 0": tiff(15 - 15 * BINARY, 4, 0),
    "a palette": encode(with_palette(BINARY, [0, 0, 0, 255, 255, 255])),
    "an inverted palette": encode(with_palette(1 - BINARY, [255, 255, 255, 0, 0, 0])),
    # Of the masks of HAM10000 some have this one.
    "an inverted palette of all grays": encode(with_palette(255 - 255 * BINARY, INVERTED_GRAYS)),
    "a palette of black and red": encode(with_palette(BINARY, [0, 0, 0, 255, 0, 0])),
    "grays of a resized mask": encode(np.where(BINARY, 128, 127).astype(np.uint8)),
    "JPEG": encode(np.repeat(BINARY * 255, 16, axis=0).repeat(16, axis=1), "jpeg"),
}


@pytest.mark.parametrize("encoded", BINARY_MASKS.values(), ids=BINARY_MASKS.keys())
def test_of_two_classes_the_lighter_is_the_foreground(encoded: bytes) -> None:
    decoded = class_ids(read_mask(encoded), 2)
    assert decoded.dtype == np.uint8
    steps = (decoded.shape[0] // 2, decoded.shape[1] // 3)
    np.testing.assert_array_equal(decoded[:: steps[0], :: steps[1]], BINARY)


def test_an_empty_mask_is_background_and_a_full_one_foreground() -> None:
    for encoded in (encode(BINARY * 0), encode(with_palette(BINARY * 0, COLORS))):
        assert not decode_mask(encoded, ImageSpec(4, 4), 2).any()
    assert decode_mask(encode(BINARY * 0 + 255), ImageSpec(4, 4), 2).all()


REFUSED = {
    "a class too many": (encode(CLASSES), 3, "its values are 0, 1, 2, 3; expected 0 to 2$"),
    "dark gray for white": (encode(BINARY * 100), 2, "are 0, 100; expected 0 to 1, or 0 and 255"),
    "indices for white": (encode(with_palette(CLASSES, COLORS)), 2, "are 0, 1, 2, 3; expected"),
    "white of three classes": (encode(BINARY * 255), 3, "are 0, 255; expected 0 to 2$"),
    "colors": (encode(np.full((2, 2, 3), (200, 0, 0), np.uint8)), 2, "and this is in color"),
    "transparent": (encode(Image.new("RGBA", (2, 2), (1, 1, 1, 9))), 2, "this is transparent"),
    "deep gray": (encode(np.array([[0, 65535]], np.uint16)), 2, "reach from 0 to 65535, not 0"),
    "fractions": (encode(Image.new("F", (2, 2), 0.5), "tiff"), 2, "palette, and this is F"),
    "ink": (encode(Image.new("CMYK", (2, 2)), "tiff"), 2, "palette, and this is CMYK"),
}


@pytest.mark.parametrize(
    ("encoded", "num_classes", "message"), REFUSED.values(), ids=REFUSED.keys()
)
def test_what_is_no_mask_is_refused(encoded: bytes, num_classes: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_mask(encoded, ImageSpec(4, 4), num_classes)


def test_of_many_values_the_first_and_the_last_are_listed() -> None:
    assert format_values(range(10)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert format_values(range(0, 120, 10)) == "0, 10, 20, 30, ..., 110, 12 in all"


@pytest.mark.parametrize("side", [64, 40, 24, 7, 96, 130])
@pytest.mark.parametrize("axis", [0, 1])
def test_the_edge_of_a_mask_is_the_edge_of_its_image(axis: int, side: int) -> None:
    """Of an edge at any place both say the same pixels are beyond it, whatever the scale."""
    margin = -(-64 // side)  # nearer to the border the image's filter is cut off
    for edge in range(margin, 65 - margin):
        picture = np.zeros((64, 64), np.uint8)
        picture.swapaxes(0, axis)[edge:] = 255
        mask = decode_mask(encode(picture), ImageSpec(side, side), 2)
        image = decode_image(encode(picture), ImageSpec(side, side))[..., 0]
        centers = (np.arange(side) + 0.5) * 64 / side
        tie = centers == edge  # half of the pixel is light
        across = (image.swapaxes(0, axis)[:, 0] >= 128, mask.swapaxes(0, axis)[:, 0] == 1)
        np.testing.assert_array_equal(across[0][~tie], across[1][~tie])
        np.testing.assert_array_equal(mask, np.broadcast_to(mask.take([0], 1 - axis), mask.shape))


def test_nothing_is_interpolated() -> None:
    stripes = np.tile(np.array([0, 3], np.uint8), (50, 25))
    assert set(np.unique(decode_mask(encode(stripes), ImageSpec(33, 33), 4))) <= {0, 3}


def test_a_mask_is_turned_as_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by a quarter
    for image in (Image.fromarray(CLASSES), with_palette(CLASSES, COLORS)):
        np.testing.assert_array_equal(read_mask(encode(image, exif=exif)), np.rot90(CLASSES, -1))
