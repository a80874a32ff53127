"""Gray values are displayed as PS3.3, C.11 says, computed here once more, and as in pydicom."""

import math

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from data.formats.dicom.image import decode_dicom
from tests.helpers.dicom_files import dicom_dataset, encode

VALUES = np.arange(-600, 840, 12).reshape(12, 10).astype(np.int16)


def by_the_standard(values, center, width, function):
    """Return 0..255, written value by value from C.11.2.1.2 and C.11.2.1.3."""
    shown = np.empty(values.shape)
    for place, x in np.ndenumerate(values.astype(np.float64)):
        if function == "SIGMOID":
            y = 255 / (1 + math.exp(min(-4 * (x - center) / width, 700)))
        elif function == "LINEAR_EXACT":
            if x <= center - width / 2:
                y = 0
            elif x > center + width / 2:
                y = 255
            else:
                y = ((x - center) / width + 0.5) * 255
        elif x <= center - 0.5 - (width - 1) / 2:
            y = 0
        elif x > center - 0.5 + (width - 1) / 2:
            y = 255
        else:
            y = ((x - (center - 0.5)) / (width - 1) + 0.5) * 255
        shown[place] = y
    return shown


def check(content: bytes, shown: np.ndarray) -> None:
    """Compare with levels before rounding."""
    decoded = decode_dicom(content)
    assert np.abs(decoded - shown).max() <= 0.5 + 1e-9
    assert len(np.unique(decoded)) > 1


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(40, 400), (-100.5, 33.25), (100, 1), (0, 3000)])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (0.5, -100), (2, 1000)])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_windows_are_those_of_the_standard(photometric, slope, intercept, center, width, function):
    dataset = dicom_dataset(VALUES, PhotometricInterpretation=photometric, VOILUTFunction=function)
    dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
    dataset.WindowCenter, dataset.WindowWidth = center + intercept, width
    values = VALUES * float(slope) + intercept
    shown = by_the_standard(values, center + intercept, width, function)
    check(encode(dataset), 255 - shown if photometric == "MONOCHROME1" else shown)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_are_those_of_pydicom(function):
    dataset = dicom_dataset(VALUES, VOILUTFunction=function, WindowCenter=40, WindowWidth=400)
    dataset.RescaleSlope, dataset.RescaleIntercept = 0.5, -100
    content = encode(dataset)
    read = dcmread(DicomBytesIO(content))
    values = apply_modality_lut(read.pixel_array, read)
    shown = apply_voi_lut(values, read)
    low, high = -(2**15) * 0.5 - 100, (2**15 - 1) * 0.5 - 100  # pydicom's range of the result
    check(content, 255 * (shown - low) / (high - low))


def test_the_first_of_several_windows_is_used():
    dataset = dicom_dataset(VALUES, WindowCenter=[40, 300], WindowWidth=[80, 900])
    check(encode(dataset), by_the_standard(VALUES, 40, 80, "LINEAR"))


def test_an_empty_window_is_none():
    dataset = dicom_dataset(VALUES, WindowCenter=None, WindowWidth=None)
    assert decode_dicom(encode(dataset)).min() == 0


def lut_item(first: int, entries: np.ndarray, bits: int, vr: str = "US") -> Dataset:
    item = Dataset()
    signed = "SS" if first < 0 else "US"
    item.add_new("LUTDescriptor", signed, [len(entries), first, bits])
    content = entries.tolist() if vr == "US" else entries.astype("<u2").tobytes()
    item.add_new("LUTData", vr, content)
    return item


@pytest.mark.parametrize("vr", ["US", "OW"])
@pytest.mark.parametrize("bits", [8, 10, 16])
@pytest.mark.parametrize("first", [-300, 0, 200])
def test_a_voi_lut_is_applied_before_a_window_and_clips_at_its_ends(first, bits, vr):
    entries = np.random.default_rng(0).integers(0, 2**bits, 400)
    dataset = dicom_dataset(VALUES, WindowCenter=40, WindowWidth=400)
    dataset.VOILUTSequence = [lut_item(first, entries, bits, vr)]
    index = np.clip(VALUES.astype(int) - first, 0, 399)
    check(encode(dataset), 255 * entries[index] / (2**bits - 1))


def test_luts_are_those_of_pydicom():
    rng = np.random.default_rng(0)
    values = np.arange(120).reshape(12, 10).astype(np.uint16)
    dataset = dicom_dataset(values)
    dataset.ModalityLUTSequence = [lut_item(10, rng.integers(0, 4096, 80), 16)]
    dataset.ModalityLUTSequence[0].ModalityLUTType = "US"
    dataset.VOILUTSequence = [lut_item(500, rng.integers(0, 4096, 2000), 12)]
    content = encode(dataset)
    read = dcmread(DicomBytesIO(content))
    shown = apply_voi_lut(apply_modality_lut(read.pixel_array, read), read)
    check(content, 255 * shown.astype(float) / 4095)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("limit", [None, -560])
@pytest.mark.parametrize("window", [None, (40, 400)])
def test_padding_is_black_and_counts_for_no_range(window, limit, photometric):
    dataset = dicom_dataset(VALUES, PhotometricInterpretation=photometric)
    dataset.add_new("PixelPaddingValue", "SS", -600)
    is_padding = VALUES == -600
    if limit is not None:
        dataset.add_new("PixelPaddingRangeLimit", "SS", limit)
        is_padding = limit >= VALUES
    if window is None:
        low, high = float(VALUES[~is_padding].min()), float(VALUES.max())
        shown = np.clip(255 * (VALUES - low) / (high - low), 0, 255)
    else:
        dataset.WindowCenter, dataset.WindowWidth = window
        shown = by_the_standard(VALUES, *window, "LINEAR")
    shown = 255 - shown if photometric == "MONOCHROME1" else shown
    check(encode(dataset), np.where(is_padding, 0, shown))


def test_padding_may_be_written_with_the_other_sign():
    dataset = dicom_dataset(np.where(VALUES == -600, -2000, VALUES).astype(np.int16))
    dataset.add_new("PixelPaddingValue", "US", 2**16 - 2000)
    decoded = decode_dicom(encode(dataset))
    assert decoded[0, 0] == 0 and decoded[0, 1] == 0 and decoded[0, 3] == 4


def test_an_image_of_padding_alone_is_black():
    dataset = dicom_dataset(np.full((4, 4), 7, np.uint16), PixelPaddingValue=7)
    assert not decode_dicom(encode(dataset)).any()


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME1", "IDENTITY", True),
    ],
)
def test_values_are_inverted_once(photometric, shape, inverted):
    dataset = dicom_dataset(VALUES, PhotometricInterpretation=photometric)
    dataset.PresentationLUTShape = shape
    decoded = decode_dicom(encode(dataset))
    assert (decoded[0, 0], decoded[-1, -1]) == ((255, 0) if inverted else (0, 255))
