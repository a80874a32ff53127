"""DICOM images of every kind give the pixels that were written."""

import io

import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.pixels import convert_color_space
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from data.formats.dicom.image import decode_dicom
from tests.helpers.dicom_files import dicom_dataset, encode, encode_with

NATIVE = (
    *(ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian),
    DeflatedExplicitVRLittleEndian,
)
COMPRESSED = (RLELossless, JPEGLosslessSV1, JPEGLossless, JPEGLSLossless, JPEG2000Lossless)
SHAPE = (40, 32)
KINDS = {  # type and bits stored
    "8 bits": ("u1", 8),
    "12 bits": ("u2", 12),
    "16 bits": ("u2", 16),
    "12 bits, signed": ("i2", 12),
    "16 bits, signed": ("i2", 16),
}


def random_values(dtype: str, bits: int) -> np.ndarray:
    low = -(2 ** (bits - 1)) if dtype[0] == "i" else 0
    return np.random.default_rng(bits).integers(low, low + 2**bits, SHAPE).astype(dtype)


def colors() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), np.uint8)


def smooth_colors() -> np.ndarray:
    y, x = np.mgrid[:16, :16]
    return np.stack([16 * x, 16 * y, 255 - 8 * x - 8 * y], -1).astype(np.uint8)


def spread(values: np.ndarray, *, inverted: bool = False) -> np.ndarray:
    """Return the range of the values as 0 to 255."""
    wide = values.astype(np.float64)
    shown = (wide - wide.min()) / (wide.max() - wide.min())
    return np.floor(255 * (1 - shown if inverted else shown) + 0.5)


@pytest.mark.parametrize("syntax", [*NATIVE, *COMPRESSED], ids=lambda uid: uid.name)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_gray_values_are_those_that_were_written(kind, photometric, syntax):
    dtype, bits = KINDS[kind]
    values = random_values(dtype, bits)
    dataset = dicom_dataset(values, BitsStored=bits, PhotometricInterpretation=photometric)
    expected = spread(values, inverted=photometric == "MONOCHROME1")
    np.testing.assert_array_equal(decode_dicom(encode(dataset, syntax)), expected)


@pytest.mark.parametrize(
    ("syntax", "planar"),
    [*((uid, 0) for uid in (*NATIVE, *COMPRESSED)), *((uid, 1) for uid in NATIVE)],
)
def test_colors_are_those_that_were_written(syntax, planar):
    pixels = colors()
    stored = np.ascontiguousarray(pixels.transpose(2, 0, 1)) if planar else pixels
    dataset = dicom_dataset(pixels, PlanarConfiguration=planar, PixelData=stored.tobytes())
    np.testing.assert_array_equal(decode_dicom(encode(dataset, syntax)), pixels)


@pytest.mark.parametrize("syntax", NATIVE, ids=lambda uid: uid.name)
def test_ybr_becomes_rgb_as_in_pydicom(syntax):
    pixels = convert_color_space(smooth_colors(), "RGB", "YBR_FULL")
    expected = convert_color_space(pixels, "YBR_FULL", "RGB")
    dataset = dicom_dataset(pixels, PhotometricInterpretation="YBR_FULL")
    np.testing.assert_array_equal(decode_dicom(encode(dataset, syntax)), expected)
    assert np.abs(expected.astype(int) - smooth_colors()).max() <= 2


def test_two_pixels_share_their_colors_in_ybr_full_422():
    pixels = convert_color_space(smooth_colors(), "RGB", "YBR_FULL")
    pixels[:, 1::2, 1:] = pixels[:, ::2, 1:]
    halved = np.stack([pixels[:, ::2, 0], pixels[:, 1::2, 0], *pixels[:, ::2, 1:].T.swapaxes(1, 2)])
    dataset = dicom_dataset(pixels, PhotometricInterpretation="YBR_FULL_422")
    dataset.PixelData = halved.transpose(1, 2, 0).tobytes()
    expected = convert_color_space(pixels, "YBR_FULL", "RGB")
    np.testing.assert_array_equal(decode_dicom(encode(dataset)), expected)


@pytest.mark.parametrize("adobe", [False, True])
@pytest.mark.parametrize("photometric", ["YBR_FULL_422", "RGB"])
def test_a_color_jpeg_is_that_of_a_viewer(photometric, adobe):
    file = io.BytesIO()
    Image.fromarray(smooth_colors()).save(file, "jpeg", quality=95, subsampling=0)
    content = file.getvalue()
    if adobe:  # in place of the segment of JFIF, which says the same
        marker = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x01"
        content = content[:2] + marker + content[4 + int.from_bytes(content[4:6], "big") :]
    dataset = dicom_dataset(smooth_colors(), PhotometricInterpretation=photometric)
    dataset.PixelData = encapsulate([content])
    decoded = decode_dicom(encode_with(dataset, JPEGBaseline8Bit))
    assert np.abs(decoded.astype(int) - smooth_colors()).max() <= 4


def test_a_gray_jpeg_is_that_of_pillow():
    pixels = smooth_colors()[..., 0]
    dataset = dicom_dataset(pixels)
    content = encode(dataset, JPEGBaseline8Bit)
    decoded = decode_dicom(content)
    assert np.abs(decoded.astype(int) - spread(pixels)).max() <= 4


@pytest.mark.parametrize("most", [255, 65535])
@pytest.mark.parametrize("first", [0, 100])
def test_a_palette_gives_its_colors_and_clips_at_its_ends(first, most):
    bits = most.bit_length()
    values = np.arange(40 * 32).reshape(SHAPE).astype(np.uint16) // 3
    rng = np.random.default_rng(0)
    tables = {name: rng.integers(0, most + 1, 200) for name in ("Red", "Green", "Blue")}
    dataset = dicom_dataset(values, PhotometricInterpretation="PALETTE COLOR")
    for name, table in tables.items():
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [200, first, bits])
        content = table.astype("u1" if bits == 8 else "<u2").tobytes()
        setattr(dataset, f"{name}PaletteColorLookupTableData", content)
    index = np.clip(values.astype(int) - first, 0, 199)
    found = np.stack([table[index] for table in tables.values()], -1)
    expected = np.floor(255 * found / most + 0.5)
    np.testing.assert_array_equal(decode_dicom(encode(dataset)), expected)


@pytest.mark.parametrize("dtype", ["u2", "i2"])
@pytest.mark.parametrize("high_bit", [11, 13, 15])
def test_bits_that_are_not_used_may_hold_anything(high_bit, dtype):
    values = random_values(dtype, 12)
    shift = high_bit - 11
    noise = np.random.default_rng(1).integers(0, 2**16, SHAPE).astype("u2")
    used = np.uint16((2**12 - 1) << shift)
    stored = ((values.view("u2") << shift) & used) | (noise & ~used)
    dataset = dicom_dataset(values, BitsStored=12, HighBit=high_bit, PixelData=stored.tobytes())
    np.testing.assert_array_equal(decode_dicom(encode(dataset)), spread(values))


def test_bits_and_32_bits_are_read():
    bits = np.random.default_rng(0).integers(0, 2, (8, 16)).astype(np.uint8)
    packed = np.packbits(bits, bitorder="little").tobytes()
    dataset = dicom_dataset(bits, BitsAllocated=1, BitsStored=1, PixelData=packed)
    np.testing.assert_array_equal(decode_dicom(encode(dataset)), 255 * bits)
    values = np.random.default_rng(0).integers(0, 2**32, SHAPE).astype(np.uint32)
    np.testing.assert_array_equal(decode_dicom(encode(dicom_dataset(values))), spread(values))


def test_colors_of_16_bits_are_scaled_by_their_bits():
    pixels = np.random.default_rng(0).integers(0, 2**12, (*SHAPE, 3)).astype(np.uint16)
    expected = np.floor(255.0 * pixels / 4095 + 0.5)
    content = encode(dicom_dataset(pixels, BitsStored=12))
    np.testing.assert_array_equal(decode_dicom(content), expected)
