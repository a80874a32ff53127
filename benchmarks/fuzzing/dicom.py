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
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
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

import data.formats.volume_file
from benchmarks.fuzzing.harness import Files, Target
from benchmarks.fuzzing.mutations import changed_bytes
from data.formats.dicom.file import DicomError, is_dicom
from data.formats.dicom.identity import patient_groups, read_identity
from data.formats.dicom.series import is_dicom_volume
from data.formats.dicom.volume import open_dicom_volume, volume_identity
from data.formats.image_file import read_image_file
from data.formats.images import open_rgb
from lmf_jax.errors import UserError
from tests.helpers.dicom_files import SENTINEL, dicom_dataset, encode, encode_with
from tests.helpers.dicom_series import enhanced, series

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


def _set(dataset: Dataset, keyword: str, value: Any) -> None:
    """Set an element with a fixed VR: pydicom refuses to write one that does not fit the pixels."""
    dataset.add_new(keyword, dictionary_VR(keyword).partition(" or ")[0], value)


@st.composite
def _changed_elements(draw: DrawFn) -> bytes:
    """Draw a file whose elements have other values, which fit together or not."""
    dataset = dicom_dataset(draw(st.sampled_from(_pixels())))
    for keyword in draw(st.lists(st.sampled_from(list(_ELEMENTS)), min_size=1, max_size=4)):
        _set(dataset, keyword, draw(st.sampled_from(_ELEMENTS[keyword])))
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


SERIES = "case"
"""Folder of a volume: slices, or one enhanced file."""

_GEOMETRY: dict[str, tuple[Any, ...]] = {
    "ImagePositionPatient": ([0, 0, 0], [1e9, 0, "1e300"], ["-1e999", 0, 0], [0, 0], None),
    "ImageOrientationPatient": ([0] * 6, [1, 0, 0, 0, 0, 1], [1, 0, 0, 1, 0, 0], [1], None),
    "PixelSpacing": ([0, 0], [-1, 1], ["1e-300", "1e300"], [1], None),
    "ImageType": ("LOCALIZER", ["ORIGINAL", "PRIMARY", "LOCALIZER"], SENTINEL),
    "SeriesInstanceUID": (SENTINEL, "", "1.2.3"),
    "SOPClassUID": ("1.2.840.10008.5.1.4.1.1.66.4", SENTINEL),
}
"""Values of the elements of slices that lie or are odd."""


def _slice_pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1000, (3, 12, 10)).astype(np.int16)


@functools.cache
def _valid_slices() -> tuple[bytes, ...]:
    """Return the files of a series, in several transfer syntaxes."""
    datasets = series(_slice_pixels(), SeriesInstanceUID="1.2.3", slopes=(2, 0.5))
    return tuple(map(encode, datasets, (*_NATIVE[:2], RLELossless)))


@functools.cache
def _valid_enhanced() -> tuple[bytes, ...]:
    return tuple(encode(enhanced(_slice_pixels()), syntax) for syntax in (*_NATIVE, RLELossless))


@st.composite
def _changed_slices(draw: DrawFn) -> Files:
    """Draw a series with other elements, changed bytes, or without a slice or with one twice."""
    elements = _GEOMETRY | _ELEMENTS
    datasets = series(_slice_pixels(), SeriesInstanceUID="1.2.3")
    for keyword in draw(st.lists(st.sampled_from(list(elements)), max_size=3)):
        for dataset in draw(st.lists(st.sampled_from(datasets), min_size=1, max_size=3)):
            _set(dataset, keyword, draw(st.sampled_from(elements[keyword])))
    syntax = draw(st.sampled_from((*_NATIVE, DeflatedExplicitVRLittleEndian)))
    files = [encode_with(dataset, syntax) for dataset in datasets]
    for number in draw(st.lists(st.integers(0, 2), max_size=2)):
        files[number] = draw(changed_bytes(_valid_slices()))
    names = draw(st.permutations(("IM1", "IM2.dcm", "1.2.3.4", "notes.txt", "DICOMDIR")))
    return {f"{SERIES}/{name}": content for name, content in zip(names, files, strict=False)}


@st.composite
def _changed_frames(draw: DrawFn) -> Files:
    """Draw an enhanced file with other elements, in the file or a functional group."""
    dataset = enhanced(_slice_pixels(), slopes=(2, 0.5))
    groups = [*dataset.SharedFunctionalGroupsSequence, *dataset.PerFrameFunctionalGroupsSequence]
    places = [dataset, *groups, *(value[0] for group in groups for value in group.values())]
    elements = _GEOMETRY | _ELEMENTS
    for place in draw(st.lists(st.sampled_from(places), min_size=1, max_size=3)):
        keyword = draw(st.sampled_from(list(elements)))
        _set(place, keyword, draw(st.sampled_from(elements[keyword])))
    if draw(st.integers(0, 4)) == 0:
        del groups[draw(st.integers(0, 3))][:]
    content = encode_with(dataset, draw(st.sampled_from(_NATIVE)))
    return {f"{SERIES}/file": content}


def _bad_volumes() -> SearchStrategy[Files]:
    frames = changed_bytes(_valid_enhanced()).map(lambda content: {f"{SERIES}/file.dcm": content})
    return st.one_of(_changed_slices(), _changed_frames(), frames)


def _read_volume(folder: Path) -> None:
    """Read as a preparation and a prediction do; neither quotes the header."""
    path = folder / SERIES
    with mock.patch.object(data.formats.volume_file, "LARGEST_VOLUME", 2**18):
        try:
            assert isinstance(is_dicom_volume(path), bool)
            volume = open_dicom_volume(path)
            image = volume.read_image()
        except UserError as error:
            assert SENTINEL not in str(error)
            raise
    assert image.shape == volume.oriented_shape and image.dtype == np.float32
    assert np.isfinite(image).all() and np.isfinite(volume.affine).all()
    groups = patient_groups([volume_identity(path), None])
    assert groups is None or SENTINEL not in "".join(groups)


def _read_dicom(folder: Path) -> None:
    """Read as a preparation and a prediction do; neither quotes the header."""
    path = folder / DICOM
    groups = patient_groups([read_identity(path), None])
    assert groups is None or SENTINEL not in "".join(groups)
    with mock.patch.object(Image, "MAX_IMAGE_PIXELS", 2**18):
        try:
            encoded = read_image_file(path)
            if is_dicom(path.read_bytes()):
                assert np.asarray(open_rgb(encoded)).shape[2] == 3
        except DicomError as error:
            assert SENTINEL not in str(error)
            raise UserError(str(error)) from error


TARGETS = (
    Target("dicom", _bad_files, _read_dicom),
    Target("dicom-volume", _bad_volumes, _read_volume, cost=3),
    Target("dicom-lossless", _bad_lossless_files, _read_dicom, cost=50),
)
