"""Files that are not one volume are refused in one sentence without text of a header."""

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

import data.formats.dicom.series
import data.formats.volume_file
from data.formats.dicom.volume import open_dicom_volume
from lmf_jax.errors import UserError
from lmf_jax.extras import MissingPackageError
from tests.helpers.dicom_files import SENTINEL, encode_with
from tests.helpers.dicom_series import enhanced, series, write_enhanced, write_series

PIXELS = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)
SLICES = range(len(PIXELS))


def refusal(path: Path) -> str:
    """Return the sentence that refuses to open or to read a volume."""
    with pytest.raises(UserError) as caught:
        open_dicom_volume(path).read_image()
    message = str(caught.value)
    assert message.startswith(str(path)) and message.endswith(".")
    assert SENTINEL not in message and message.isprintable()
    assert caught.value.__cause__ is None or SENTINEL not in str(caught.value.__cause__)
    return message


def changed(*numbers: int, **elements: object) -> list[Dataset]:
    """Return a series in which some slices have other elements."""
    datasets = series(PIXELS, SeriesInstanceUID="1.2.3")
    for number in numbers:
        for keyword, value in elements.items():
            if value is None:
                delattr(datasets[number], keyword)
            else:
                setattr(datasets[number], keyword, value)
    return datasets


def moved(places: list[tuple[float, float, float]]) -> list[Dataset]:
    datasets = changed()
    for dataset, place in zip(datasets, places, strict=True):
        dataset.ImagePositionPatient = list(place)
    return datasets


SERIES: dict[str, tuple[Callable[[], list[Dataset]], str]] = {
    "a missing slice": (
        lambda: changed()[:2] + changed()[3:],
        r"has gaps of 3 to 6 mm between slices; expected equal gaps, .* one may be missing",
    ),
    "uneven gaps": (
        lambda: moved([(0, 0, z) for z in (0, 3, 6, 9.6, 12)]),
        "has gaps of 2.4 to 3.6 mm between slices",
    ),
    "growing gaps": (
        lambda: moved([(0, 0, z) for z in (0, 2.8, 5.8, 9, 12.4)]),
        "has gaps of 2.8 to 3.4 mm between slices",
    ),
    "two at a position": (
        lambda: [*changed(), *changed()[:2]],
        r"has more slices than positions \(7 and 5\); expected one slice at each",
    ),
    "all at a position": (
        lambda: moved([(0, 0, 3)] * 5),
        r"has more slices than positions \(5 and 1\)",
    ),
    "two series": (
        lambda: changed(3, 4, SeriesInstanceUID="1.2.4"),
        "has files of 2 series; expected a folder for each",
    ),
    "a turned slice": (
        lambda: changed(2, ImageOrientationPatient=[1, 0, 0, 0, 0.8, 0.6]),
        "has slices whose ImageOrientationPatient differs by 0.6; expected parallel slices",
    ),
    "another spacing": (
        lambda: changed(2, PixelSpacing=[1.5, 1.1]),
        r"has slices with pixels of 1\.5 x 1 and 1\.5 x 1\.1 mm; expected the same size",
    ),
    "another size": (
        lambda: [*changed()[:4], *series(PIXELS[4:, :3], SeriesInstanceUID="1.2.3")],
        "has slices of 6 x 7 and 3 x 7 pixels",
    ),
    "a tilted gantry": (
        lambda: moved([(0, z / 4, z) for z in (0, 3, 6, 9, 12)]),
        "has slices that are shifted by up to 3 mm, as by a tilted gantry; expected at most 0.5 mm",
    ),
    "one slice": (lambda: changed()[:1], "has one slice; expected a volume"),
    "no position": (
        lambda: changed(1, ImagePositionPatient=None),
        r"IM\d+ cannot be read as part of a volume: its header lacks ImagePositionPatient",
    ),
    "no orientation": (
        lambda: changed(1, ImageOrientationPatient=None),
        "its header lacks ImageOrientationPatient",
    ),
    "no spacing": (lambda: changed(1, PixelSpacing=None), "its header lacks PixelSpacing"),
    "one spacing": (lambda: changed(1, PixelSpacing=1.5), "its header lacks PixelSpacing"),
    "an endless spacing": (
        lambda: changed(1, PixelSpacing=["1e999", "1"]),
        "its PixelSpacing is not finite",
    ),
    "a spacing of 0": (
        lambda: changed(*SLICES, PixelSpacing=[0, 1]),
        "claims voxels of 1 x 0 x 3 mm; expected 0.05 to 50 mm",
    ),
    "a spacing of km": (
        lambda: changed(*SLICES, PixelSpacing=[1e6, 1]),
        r"claims voxels of 1 x 1e\+06 x 3 mm",
    ),
    "a distant slice": (
        lambda: moved([(0, 0, z) for z in (0, 3, 6, 9, 1e300)]),
        "has gaps of 3 to",
    ),
    "no unit vectors": (
        lambda: changed(1, ImageOrientationPatient=[1, 0, 0, 1, 0, 0]),
        "its ImageOrientationPatient is not two unit vectors at right angles",
    ),
    "colors": (
        lambda: series(np.zeros((3, 6, 7, 3), np.uint8)),
        "it has colors; expected gray values",
    ),
    "a palette": (
        lambda: changed(1, PhotometricInterpretation="PALETTE COLOR"),
        "it has colors; expected gray values",
    ),
    "a localizer": (
        lambda: changed(0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        "it is a localizer; expected the slices of a volume alone",
    ),
    "a segmentation": (
        lambda: changed(0, SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4"),
        "it is a segmentation object; expected an image",
    ),
    "a clip": (
        lambda: changed(0, NumberOfFrames=3),
        "it has 3 frames and 0 functional groups; expected one frame, or an enhanced file",
    ),
    "two enhanced files": (
        lambda: [enhanced(PIXELS, SeriesInstanceUID="1.2.3") for _ in range(2)],
        "has 2 files with 10 frames; expected one frame a file, or one file",
    ),
    "no pixels": (lambda: changed(2, PixelData=None), "it is a DICOM file without an image"),
    "too few pixels": (
        lambda: changed(2, PixelData=bytes(20)),
        "its pixel data have 20 bytes; expected 84",
    ),
    "a slope without end": (
        lambda: changed(2, RescaleSlope="1e999"),
        "its rescale slope or intercept is not finite",
    ),
    "values without end": (
        lambda: changed(2, RescaleSlope="1e300"),
        "has a value that is not finite",
    ),
    "no rows": (lambda: changed(2, Rows=None), "its header lacks Rows"),
}


@pytest.mark.parametrize(("make", "message"), SERIES.values(), ids=SERIES.keys())
def test_what_is_not_one_volume_is_refused(make, message: str, tmp_path: Path) -> None:
    found = refusal(write_series(tmp_path / "case", make()))
    assert re.search(message, found), found


def test_positions_that_were_rounded_are_accepted(tmp_path: Path) -> None:
    places = [(0.04 * (z % 2), 0, round(1.25 * z + 1e-9, 1)) for z in range(5)]
    volume = open_dicom_volume(write_series(tmp_path / "case", moved(places)))
    assert volume.spacing == pytest.approx((1.25, 1.5, 1.0))


def test_an_empty_or_missing_folder_is_refused(tmp_path: Path) -> None:
    assert "has no DICOM file; expected the slices of one series" in refusal(tmp_path)
    (tmp_path / "notes.txt").write_text("a remark")
    assert "has no DICOM file" in refusal(tmp_path)
    assert "the system refuses to read it (No such file" in refusal(tmp_path / "x.dcm")


TRUNCATED = [("IM0001", n) for n in (140, 300, 700, -60)]
TRUNCATED += [("IM0009.dcm", n) for n in (0, 100, 132, 140, -60)]


@pytest.mark.parametrize(("name", "length"), TRUNCATED)
def test_a_truncated_slice_is_refused_by_its_name(name: str, length: int, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "case", changed())
    content = (folder / "IM0001").read_bytes()[:length]
    (folder / "IM0001").unlink()
    (folder / name).write_bytes(content)
    assert refusal(folder).startswith(f"{folder / name} cannot be read as part of a volume: it")


FRAMES = {
    "fewer groups": (
        dict(NumberOfFrames=7),
        "it has 7 frames and 5 functional groups; expected one",
    ),
    "no groups": (dict(PerFrameFunctionalGroupsSequence=[]), "it has 5 frames and 0 functional"),
    "empty groups": (
        dict(PerFrameFunctionalGroupsSequence=[Dataset()] * 5),
        "its header lacks ImagePositionPatient",
    ),
    "no shared group": (
        dict(SharedFunctionalGroupsSequence=[]),
        "its header lacks ImageOrientationPatient",
    ),
    "negative": (dict(NumberOfFrames=-1), "it has -1 frames and 5 functional groups"),
    "a label map": (
        dict(SOPClassUID="1.2.840.10008.5.1.4.1.1.66.7"),
        "it is a segmentation object",
    ),
    "fewer pixels": (
        dict(PixelData=bytes(84)),
        "its pixel data have 84 bytes; expected 420 for 5 frames of 7 x 6 pixels",
    ),
}


@pytest.mark.parametrize(("elements", "message"), FRAMES.values(), ids=FRAMES.keys())
def test_an_enhanced_file_that_lies_is_refused(elements, message: str, tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "case.dcm", enhanced(PIXELS, **elements))
    assert re.search(message, refusal(path))


def test_frames_of_rle_that_would_unpack_to_far_more_are_refused(tmp_path: Path) -> None:
    frames = [bytes(64)] * 4 + [bytes(2**13)]  # the last frame is the first slice
    dataset = enhanced(PIXELS, PixelData=encapsulate(frames))
    (tmp_path / "case.dcm").write_bytes(encode_with(dataset, RLELossless))
    message = refusal(tmp_path / "case.dcm")
    assert "its RLE data have 8192 bytes; expected 4264 at most for 7 x 6 pixels" in message


def test_large_claims_are_refused_before_memory_is_taken(tmp_path: Path, monkeypatch) -> None:
    folder = write_series(tmp_path / "case", changed())
    monkeypatch.setattr(data.formats.volume_file, "LARGEST_VOLUME", 100)
    assert "claims 7 x 6 x 5 voxels; expected at most 100 in all" in refusal(folder)
    monkeypatch.setattr(data.formats.dicom.series, "LARGEST_FILE", 50)
    assert re.search(r"it has \d+ bytes; expected at most 50", refusal(folder))


def test_a_file_that_changed_is_refused(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "case", changed())
    volume = open_dicom_volume(folder)
    shutil.rmtree(folder)
    write_series(folder, series(PIXELS[:, :3]))
    with pytest.raises(UserError, match="its size has changed since its header was read"):
        volume.read_image()


def test_without_pydicom_the_extra_is_named(tmp_path: Path, monkeypatch) -> None:
    folder = write_series(tmp_path / "case", changed())
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'lmf-jax\[dicom\]'"):
        open_dicom_volume(folder)
