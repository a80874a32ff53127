"""Targets that read DICOM files: changed bytes, elements and pixel data of every kind.

Every valid file has a sentinel as name and number of its patient, which no message may quote.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from PIL import Image
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from benchmarks.fuzzing.harness import Files, Target
from benchmarks.fuzzing.mutations import changed_bytes
from data.formats.dicom.file import DicomError
from data.formats.dicom.identity import patient_groups, read_identity
from data.formats.image_file import read_image_file
from data.formats.images import open_rgb
from lmf_jax.errors import UserError
from tests.helpers.dicom_files import SENTINEL, dicom_dataset, encode, encode_with

DICOM = "image.dcm"

_NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
_COMPRESSED = (RLELossless, JPEGBaseline8Bit, JPEG2000Lossless)
_IN_A_PROCESS = (JPEGLosslessSV1, JPEGLSLossless)
_ELEMENTS: dict[str, tuple[Any, ...]] = {
    "Rows": (0, 1, 11, 13, 255, 65535),
    "Columns": (0, 1, 9, 11, 255, 65535),
    "SamplesPerPixel": (0, 1, 2, 3, 4, 65535),
    "PlanarConfiguration": (0, 1, 2),
    "NumberOfFrames": (0, 1, 2, 10**6, -1),
    "BitsAllocated": (0, 1, 8, 12, 16, 32, 64, 65535),
    "BitsStored": (0, 1, 7, 8, 12, 16, 17, 65535),
    "HighBit": (0, 7, 11, 15, 16, 65535),
    "PixelRepresentation": (0, 1, 2),
    "PhotometricInterpretation": (
        *("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422"),
        *("YBR_ICT", "YBR_PARTIAL_420", SENTINEL, ""),
    ),
    "WindowCenter": (0, [1, 2], "1e300", None),
    "WindowWidth": (0, 1, [300, 2], -5, "1e-300", "1e300"),
    "VOILUTFunction": ("LINEAR", "LINEAR_EXACT", "SIGMOID", SENTINEL),
    "RescaleSlope": (0, 1, -2, "1e300", "1e-300"),
    "RescaleIntercept": (0, -1024, "1e300"),
    "PixelPaddingValue": (0, 1, 255, 65535),
    "PresentationLUTShape": ("IDENTITY", "INVERSE", SENTINEL),
    "PixelData": (b"", b"\0" * 2, b"\xff" * 4096),
}
"""Values of elements that lie, are odd or are rare."""


def _pixels() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 256, (40, 32), np.uint8),
        rng.integers(0, 4096, (40, 32)).astype(np.uint16),
        rng.integers(-2048, 2048, (40, 32)).astype(np.int16),
        rng.integers(0, 256, (40, 32, 3), np.uint8),
    ]


@functools.cache
def _valid_files() -> tuple[bytes, ...]:
    """Return files of every kind of pixels and transfer syntax, with windows and tables."""
    window = {"WindowCenter": 100, "WindowWidth": 90, "RescaleSlope": 2, "RescaleIntercept": -9}
    files = []
    for pixels in _pixels():
        for syntax in (*_NATIVE, DeflatedExplicitVRLittleEndian, *_COMPRESSED):
            if syntax == JPEGBaseline8Bit and pixels.dtype.itemsize > 1:
                continue
            dataset = dicom_dataset(pixels, PixelPaddingValue=7, **window)
            files.append(encode(dataset, syntax))
    palette = dicom_dataset(_pixels()[0], PhotometricInterpretation="PALETTE COLOR")
    for name in ("Red", "Green", "Blue"):
        setattr(palette, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 8])
        setattr(palette, f"{name}PaletteColorLookupTableData", bytes(range(256)))
    return (*files, encode(palette))


@functools.cache
def _frames() -> dict[UID, bytes]:
    """Return the compressed frame of a gray image by transfer syntax."""
    frames = {}
    for syntax in (*_COMPRESSED, *_IN_A_PROCESS):
        dataset = dicom_dataset(_pixels()[0])
        encode(dataset, syntax)
        frames[syntax] = get_frame(dataset.PixelData, 0, number_of_frames=1)
    return frames


@st.composite
def _changed_elements(draw: DrawFn) -> bytes:
    """Draw a file whose elements have other values, which fit together or not."""
    dataset = dicom_dataset(draw(st.sampled_from(_pixels())))
    for keyword in draw(st.lists(st.sampled_from(list(_ELEMENTS)), min_size=1, max_size=4)):
        setattr(dataset, keyword, draw(st.sampled_from(_ELEMENTS[keyword])))
    if draw(st.integers(0, 4)) == 0:
        delattr(dataset, draw(st.sampled_from(("Rows", "HighBit", "PixelRepresentation"))))
    return encode_with(dataset, draw(st.sampled_from((*_NATIVE, DeflatedExplicitVRLittleEndian))))


@st.composite
def _changed_frame(draw: DrawFn, syntaxes: Sequence[UID]) -> bytes:
    """Draw a file whose header is valid and whose compressed frame is not."""
    syntax = draw(st.sampled_from(syntaxes))
    frame = draw(changed_bytes([_frames()[syntax]]))
    dataset = dicom_dataset(_pixels()[0])
    dataset.PixelData = encapsulate([frame or b"\0"])
    return encode_with(dataset, syntax)


def _bad_files() -> SearchStrategy[Files]:
    any_bytes = changed_bytes(_valid_files())
    contents = st.one_of(any_bytes, _changed_elements(), _changed_frame(_COMPRESSED))
    return contents.map(lambda content: {DICOM: content})


def _bad_lossless_files() -> SearchStrategy[Files]:
    return _changed_frame(_IN_A_PROCESS).map(lambda content: {DICOM: content})


def _read_dicom(folder: Path) -> None:
    """Read as a preparation and a prediction do; neither quotes the header."""
    path = folder / DICOM
    groups = patient_groups([read_identity(path), None])
    assert groups is None or SENTINEL not in "".join(groups)
    with mock.patch.object(Image, "MAX_IMAGE_PIXELS", 2**18):
        try:
            encoded = read_image_file(path)
            if encoded.startswith(b"\x89PNG"):
                assert np.asarray(open_rgb(encoded)).shape[2] == 3
        except DicomError as error:
            assert SENTINEL not in str(error)
            raise UserError(str(error)) from error


TARGETS = (
    Target("dicom", _bad_files, _read_dicom),
    Target("dicom-lossless", _bad_lossless_files, _read_dicom, cost=50),
)
