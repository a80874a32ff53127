"""Slices of a DICOM series: one file for each, or the frames of one enhanced file.

Only headers are read here. Source: DICOM PS3.3, C.7.6.2 (image plane) and C.7.6.16 (functional
groups of frames).
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64

from data.formats.dicom.file import (
    INDEX_NAME,
    DicomError,
    is_dicom,
    read_elements,
    without_details,
)
from lmf_jax.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIXES = (".dcm", ".dicom")
"""Suffixes of DICOM files, in lower case."""

GROUP_ELEMENTS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
"""Elements with the properties of the frames of an enhanced file."""

LARGEST_FILE = 2**31
"""Maximum bytes of a file: those of the largest volume with 32 bits."""

_ELEMENTS = (
    *("SOPClassUID", "SeriesInstanceUID", "ImageType", "NumberOfFrames", *GROUP_ELEMENTS),
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation"),
    *("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing"),
)
_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""SOP classes of segmentations and label map segmentations."""


@dataclass(frozen=True, eq=False)
class Slice:
    """Position and size of a slice.

    Attributes:
        path: Its file.
        frame: Index of its frame in the file.
        series: Series Instance UID, which stays in memory.
        size: Rows and columns.
        orientation: Unit vectors along a row and along a column, in the patient coordinates of
            DICOM: to the left, to the back, upwards.
        position: Center of the first pixel in these coordinates, in mm.
        spacing: Distance of rows and distance of columns, in mm.
    """

    path: Path
    frame: int
    series: str
    size: tuple[int, int]
    orientation: Float64[np.ndarray, "2 3"]
    position: Float64[np.ndarray, " 3"]
    spacing: tuple[float, float]


def is_of_series(path: Path) -> bool:
    """Return whether a path in the folder of a series is one of its files.

    These are the files that begin as DICOM does, whatever their name, and those that end in one of
    :data:`SUFFIXES`. All others, ``DICOMDIR`` and hidden files are ignored.

    Args:
        path: The path.
    """
    name = path.name.lower()
    if name.startswith(".") or name == INDEX_NAME or not path.is_file():
        return False
    if name.endswith(SUFFIXES):
        return True
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(132))
    except OSError:
        return False


def is_series_folder(path: Path) -> bool:
    """Return whether a path is a folder with a DICOM file directly in it.

    Args:
        path: The path.
    """
    try:
        return path.is_dir() and any(map(is_of_series, path.iterdir()))
    except OSError:
        return False


def is_dicom_volume(path: Path) -> bool:
    """Return whether a path is a single volume: the folder of a series, or a DICOM file.

    A folder with other volumes is none: NIfTI files, folders of series, or enhanced files, each of
    which is a volume.

    Args:
        path: The path.
    """
    if not path.is_dir():
        return path.is_file() and path.suffix.lower() in SUFFIXES
    has_others = any(path.glob("*.nii*")) or any(map(is_series_folder, path.glob("*/")))
    if has_others or not is_series_folder(path):
        return False
    with contextlib.suppress(DicomError):
        dataset = read_file(series_files(path)[0], ("NumberOfFrames",), pixels=False)
        with without_details("its DICOM header is damaged"):
            return int(dataset.get("NumberOfFrames") or 1) == 1
    return True


def series_files(path: Path) -> list[Path]:
    """Return the files of a volume: those of the series in a folder, sorted by name, or one file.

    Args:
        path: Folder of a series, or enhanced file.

    Raises:
        UserError: If the folder cannot be listed or has no DICOM file.
    """
    if not path.is_dir():
        return [path]
    try:
        files = sorted(filter(is_of_series, path.iterdir()))
    except OSError as error:
        raise UserError(f"{path} cannot be listed ({error.strerror}).") from error
    if not files:
        raise UserError(
            f"{path} has no DICOM file; expected the slices of one series directly in it."
        )
    return files


def read_slices(path: Path) -> list[Slice]:
    """Read the headers of all slices in a file.

    Args:
        path: File with one slice, or enhanced file.

    Raises:
        UserError: If the file is damaged or is not of a gray volume.
        MissingPackageError: If pydicom is not installed.
    """
    with naming(path), without_details("its DICOM header is damaged"):
        return _slices_of(read_file(path, _ELEMENTS, pixels=False), path)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn a ``DicomError`` into a ``UserError`` that names the file.

    Args:
        path: The file.
    """
    try:
        yield
    except DicomError as error:
        raise UserError(f"{path} cannot be read as part of a volume: {error}.") from None


def read_file(path: Path, keywords: Sequence[str], *, pixels: bool) -> "Dataset":
    """Read some elements of a DICOM file, see :func:`data.formats.dicom.file.read_elements`.

    Args:
        path: The file, of at most :data:`LARGEST_FILE` bytes.
        keywords: Keywords of the elements.
        pixels: Whether to read on at the pixel data.

    Raises:
        DicomError: If it cannot be read, is too large or damaged.
        MissingPackageError: If pydicom is not installed.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise DicomError(f"it has {size} bytes; expected at most {LARGEST_FILE}")
        with path.open("rb") as file:
            return read_elements(file, keywords, pixels=pixels)
    except OSError as error:
        raise DicomError(f"the system refuses to read it ({error.strerror})") from None


def frame_item(dataset: "Dataset", frame: int, keyword: str) -> "Dataset":
    """Return the elements of a functional group for a frame (C.7.6.16).

    Args:
        dataset: Elements of a file.
        frame: Index of the frame.
        keyword: Sequence of the functional group, such as "PlanePositionSequence".

    Returns:
        The group of the frame, else the one that all frames share, else the file itself, which has
        the same elements if it has one frame.
    """
    shared, per_frame = (dataset.get(name) or [] for name in GROUP_ELEMENTS)
    for groups in (per_frame[frame : frame + 1], shared[:1]):
        for group in groups:
            if found := group.get(keyword):
                item: Dataset = found[0]
                return item
    return dataset


def _slices_of(dataset: "Dataset", path: Path) -> list[Slice]:
    """Return the slices of a file."""
    if str(dataset.get("SOPClassUID") or "") in _SEGMENTATIONS:
        raise DicomError("it is a segmentation object; expected an image, with label maps in NIfTI")
    if "LOCALIZER" in list(dataset.get("ImageType") or []):
        raise DicomError("it is a localizer; expected the slices of a volume alone")
    photometric = str(dataset.get("PhotometricInterpretation") or "")
    if dataset.get("SamplesPerPixel", 1) != 1 or photometric == "PALETTE COLOR":
        raise DicomError("it has colors; expected gray values")
    size = int(_numbers(dataset, "Rows", 1)[0]), int(_numbers(dataset, "Columns", 1)[0])
    num_frames = int(dataset.get("NumberOfFrames") or 1)
    num_groups = len(dataset.get(GROUP_ELEMENTS[1]) or [])
    if num_frames != max(1, num_groups):
        raise DicomError(
            f"it has {num_frames} frames and {num_groups} functional groups; expected one frame, "
            "or an enhanced file with a functional group for each"
        )
    series = str(dataset.get("SeriesInstanceUID") or "")
    return [
        Slice(path, frame, series, size, *_read_plane(dataset, frame))
        for frame in range(num_frames)
    ]


def _read_plane(
    dataset: "Dataset", frame: int
) -> tuple[Float64[np.ndarray, "2 3"], Float64[np.ndarray, " 3"], tuple[float, float]]:
    """Return orientation, position and spacing of a frame."""
    plane = frame_item(dataset, frame, "PlaneOrientationSequence")
    orientation = np.reshape(_numbers(plane, "ImageOrientationPatient", 6), (2, 3))
    lengths = np.linalg.norm(orientation, axis=1)
    if not (np.allclose(lengths, 1, atol=0.01) and abs(orientation[0] @ orientation[1]) < 0.01):
        raise DicomError("its ImageOrientationPatient is not two unit vectors at right angles")
    place = frame_item(dataset, frame, "PlanePositionSequence")
    measures = frame_item(dataset, frame, "PixelMeasuresSequence")
    between_rows, between_columns = _numbers(measures, "PixelSpacing", 2)
    position = np.array(_numbers(place, "ImagePositionPatient", 3))
    return orientation / lengths[:, None], position, (between_rows, between_columns)


def _numbers(dataset: "Dataset", keyword: str, count: int) -> list[float]:
    """Return the numbers of an element, which has to exist."""
    value: Any = dataset.get(keyword)
    values = [value] if isinstance(value, int | float) else list(value or [])
    if len(values) != count:
        raise DicomError(f"its header lacks {keyword}")
    numbers = [float(number) for number in values]
    if not np.isfinite(numbers).all():
        raise DicomError(f"its {keyword} is not finite")
    return numbers
