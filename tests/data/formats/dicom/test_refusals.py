"""Broken and unsupported DICOM files are refused without quoting text of the header."""

import re
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

import data.formats.dicom.file
import data.formats.dicom.pixels
from data.formats.dicom.file import DicomError
from data.formats.dicom.image import decode_dicom
from lmf_jax.extras import MissingPackageError
from tests.helpers.dicom_files import SENTINEL, dicom_dataset, encode, encode_with

PIXELS = np.arange(1280).reshape(40, 32).astype(np.uint8)


def refusal(content: bytes) -> str:
    with pytest.raises(DicomError) as caught:
        decode_dicom(content)
    message = str(caught.value)
    assert SENTINEL not in message and "\n" not in message and len(message) < 250
    return message


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"Rows": 41}, "its pixel data have 1280 bytes; expected 1312 for 32 x 41 pixels"),
        ({"Rows": 65535, "Columns": 65535}, r"claims 65535 x 65535 pixels; expected \d+ at most"),
        ({"Rows": 0}, "its header has Rows 0; expected 1 to 65535"),
        ({"Columns": None}, "its header lacks Columns"),
        ({"BitsAllocated": 12}, "BitsAllocated 12; expected 1 or 8 or 16 or 32"),
        ({"BitsStored": 9}, "BitsStored 9; expected 1 to 8"),
        ({"HighBit": 3}, "HighBit 3; expected 7 to 7"),
        ({"SamplesPerPixel": 2}, "SamplesPerPixel 2; expected 1 or 3"),
        ({"PhotometricInterpretation": SENTINEL}, "its photometric interpretation is missing"),
        ({"PhotometricInterpretation": "RGB"}, "its photometric interpretation is missing"),
        ({"NumberOfFrames": 3}, "it has 3 frames; expected one, so save each as a file"),
        ({"WindowCenter": 5, "WindowWidth": 0}, "center 5 and the width 0; .* at least 1"),
        ({"WindowCenter": 5, "WindowWidth": 9, "VOILUTFunction": SENTINEL}, "VOI LUT function"),
        ({"RescaleSlope": "1e999", "RescaleIntercept": "0"}, "slope or intercept is not finite"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "its palette is missing or segmented"),
    ],
)
def test_a_header_that_lies_is_refused(elements, reason):
    message = refusal(encode(dicom_dataset(PIXELS, **elements)))
    assert re.search(reason, message), message


def test_a_file_without_an_image_is_refused():
    dataset = dicom_dataset(PIXELS)
    del dataset.PixelData
    assert refusal(encode(dataset)) == "it is a DICOM file without an image"


def test_a_look_up_table_shorter_than_it_says_is_refused():
    dataset = dicom_dataset(PIXELS, PhotometricInterpretation="PALETTE COLOR")
    for name in ("Red", "Green", "Blue"):
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [200, 0, 16])
        setattr(dataset, f"{name}PaletteColorLookupTableData", bytes(300))
    assert "has 150 entries; expected 200" in refusal(encode(dataset))


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGLSLossless, JPEG2000Lossless])
def test_compressed_data_of_another_size_are_refused_before_they_are_decoded(syntax):
    dataset = dicom_dataset(PIXELS)
    encode(dataset, syntax)
    dataset.Rows = 44
    message = refusal(encode_with(dataset, syntax))
    assert "have 32 x 40 pixels of 1 samples with 8 bits; its header has 32 x 44 of 1" in message


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGLSLossless, JPEG2000Lossless])
def test_torn_compressed_data_are_refused(syntax):
    dataset = dicom_dataset(PIXELS, PixelData=encapsulate([b"\xff\xd8torn"]))
    assert "its compressed pixel data have no valid beginning" in refusal(
        encode_with(dataset, syntax)
    )


def test_rle_that_would_unpack_to_far_more_is_refused():
    dataset = dicom_dataset(PIXELS, PixelData=encapsulate([bytes(2**16)]))
    assert "its RLE data have" in refusal(encode_with(dataset, RLELossless))


def test_a_deflated_file_that_inflates_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(data.formats.dicom.file, "LARGEST_INFLATED", 2**24)
    content = encode(dicom_dataset(PIXELS), DeflatedExplicitVRLittleEndian)
    start = 144 + int.from_bytes(content[140:144], "little")  # after the group of the file meta
    bomb = zlib.compressobj(9, wbits=-15)
    packed = bomb.compress(bytes(2**26)) + bomb.flush()
    tracemalloc.start()
    try:
        assert refusal(content[:start] + packed) == "it inflates to more than 16777216 bytes"
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:  # a failure here must not count against the memory of later tests
        tracemalloc.stop()


@pytest.mark.parametrize("length", [0, 100, 132, 140, 200, 400, 700])
def test_a_truncated_file_is_refused(length):
    refusal(encode(dicom_dataset(PIXELS))[:length])


def test_an_unknown_transfer_syntax_is_refused():
    dataset = dicom_dataset(PIXELS, PixelData=encapsulate([bytes(8)]))
    assert "MPEG" in refusal(encode_with(dataset, "1.2.840.10008.1.2.4.100"))


def test_a_missing_package_names_the_extra(monkeypatch):
    content = encode(dicom_dataset(PIXELS))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingPackageError, match=r"needs the package pydicom.*\[dicom\]"):
        decode_dicom(content)


def test_a_missing_decoder_names_the_extra(monkeypatch):
    content = encode(dicom_dataset(PIXELS), JPEGLSLossless)
    monkeypatch.setattr(data.formats.dicom.pixels, "has_gdcm", lambda: False)
    assert "need a decoder that is not installed; run pip install -e '.[dicom]'" in refusal(content)
