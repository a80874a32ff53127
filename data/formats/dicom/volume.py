"""Volumes from DICOM: a folder with the files of one series, or one enhanced multi-frame file.

Slices are sorted by their positions along the normal of their planes, never by names or numbers.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from data.formats.dicom.file import DicomError, without_details
from data.formats.dicom.identity import Identity, read_identity
from data.formats.dicom.pixels import PIXEL_ELEMENTS, read_stored
from data.formats.dicom.rendering import MODALITY_ELEMENTS, read_modality
from data.formats.dicom.series import (
    GROUP_ELEMENTS,
    Slice,
    frame_item,
    naming,
    read_file,
    read_slices,
    series_files,
)
from data.formats.volume_file import SPACINGS, VolumeFile, check_shape, check_spacing, reorient
from lmf_jax.errors import UserError
from lmf_jax.extras import extra_packages

GAP_TOLERANCE = 0.1
"""Maximum distance of a slice from its place among equal gaps, in gaps."""

SHIFT_TOLERANCE = 0.5
"""Maximum shift of a slice from the normal through the first, in pixels."""

ORIENTATION_TOLERANCE = 1e-3
"""Maximum difference of the cosines in the orientations of two slices."""

SPACING_TOLERANCE = 1e-3
"""Maximum relative difference of the distances of pixels in two slices."""

_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From the patient coordinates of DICOM (left, back, up) to right, front, up."""


@dataclass(frozen=True, eq=False)
class DicomVolume(VolumeFile):
    """DICOM volume whose headers were read and checked.

    The stored axes are those along a row, along a column, and from slice to slice.

    Attributes:
        slices: Its slices, sorted by position.
    """

    slices: tuple[Slice, ...]

    def read_image(self) -> Float32[np.ndarray, "depth height width"]:
        """Read the values of the modality, see :meth:`VolumeFile.read_image`.

        The modality LUT, or the rescale slope and intercept, are those of each slice. Values of
        padding stay as they are.
        """
        image = np.empty(self.shape[::-1], np.float32)
        place = 0
        for path, slices in groupby(self.slices, key=lambda one: one.path):
            with naming(path), np.errstate(over="ignore"):
                for values in _read_values(path, slices):
                    image[place] = values
                    place += 1
        self._check_finite(image)
        return self._oriented(image.ravel())


def open_dicom_volume(path: Path) -> DicomVolume:
    """Read the headers of a DICOM volume.

    Args:
        path: Folder with the files of one series, see
            :func:`data.formats.dicom.series.is_of_series`, or enhanced multi-frame file.

    Raises:
        UserError: If a file is damaged, or the slices are not those of one volume with right
            angles, equal gaps and plausible sizes.
        MissingPackageError: If pydicom or nibabel is not installed.
    """
    with extra_packages("volumes", needed_by="Reading volumes"):
        import nibabel  # noqa: F401
    files = series_files(path)
    slices = [one for file in files for one in read_slices(file)]
    _check_one_series(path, len(files), slices)
    _check_alike(path, slices)
    rows, columns = slices[0].size
    shape = columns, rows, len(slices)
    check_shape(path, shape)
    ordered = _sorted(path, slices)
    affine = _affine(ordered)
    check_spacing(path, affine)
    return DicomVolume(path, shape, *reorient(affine, shape), tuple(ordered))


def volume_identity(path: Path) -> Identity | None:
    """Read the identity in the first file of a DICOM volume, see ``read_identity``.

    Args:
        path: Folder of a series, or enhanced file.

    Raises:
        UserError: If the folder has no DICOM file, or pydicom is not installed.
    """
    return read_identity(series_files(path)[0])


def _check_one_series(path: Path, num_files: int, slices: Sequence[Slice]) -> None:
    num_series = len({one.series for one in slices})
    if num_series > 1:
        raise UserError(f"{path} has files of {num_series} series; expected a folder for each.")
    if 1 < num_files < len(slices):
        raise UserError(
            f"{path} has {num_files} files with {len(slices)} frames; expected one frame a file, "
            "or one file."
        )
    if len(slices) == 1:
        raise UserError(
            f"{path} has one slice; expected a volume: the slices of a series in one folder, or "
            "one file with several frames."
        )


def _check_alike(path: Path, slices: Sequence[Slice]) -> None:
    """Reject slices that differ from the first in size, orientation or spacing."""
    first = slices[0]
    for one in slices:
        if one.size != first.size:
            sizes = (f"{rows} x {columns}" for rows, columns in (first.size, one.size))
            raise UserError(
                f"{path} has slices of {' and '.join(sizes)} pixels; expected the same size."
            )
        apart = np.abs(one.orientation - first.orientation).max()
        if not apart <= ORIENTATION_TOLERANCE:
            raise UserError(
                f"{path} has slices whose ImageOrientationPatient differs by {apart:.3g}; expected "
                f"parallel slices, with differences of at most {ORIENTATION_TOLERANCE:g}."
            )
        if not np.allclose(one.spacing, first.spacing, rtol=SPACING_TOLERANCE, atol=0):
            spacings = (f"{a:.4g} x {b:.4g}" for a, b in (first.spacing, one.spacing))
            raise UserError(
                f"{path} has slices with pixels of {' and '.join(spacings)} mm; expected the same "
                "size."
            )


def _sorted(path: Path, slices: Sequence[Slice]) -> list[Slice]:
    """Return the slices sorted along the normal; reject duplicates, uneven gaps and shifts.

    The directions along a row, along a column and from slice to slice are right-handed.
    """
    normal = np.cross(*slices[0].orientation)
    ordered = sorted(slices, key=lambda one: float(one.position @ normal))
    offsets = np.array([one.position - ordered[0].position for one in ordered])
    depths = offsets @ normal
    gaps = np.diff(depths)
    num_positions = 1 + int((gaps >= SPACINGS[0]).sum())
    if num_positions < len(slices):
        raise UserError(
            f"{path} has more slices than positions ({len(slices)} and {num_positions}); expected "
            "one slice at each: keep one time point, echo or reconstruction."
        )
    gap = depths[-1] / (len(slices) - 1)
    if not np.abs(depths - gap * np.arange(len(slices))).max() <= GAP_TOLERANCE * gap:
        raise UserError(
            f"{path} has gaps of {gaps.min():.4g} to {gaps.max():.4g} mm between slices; expected "
            f"equal gaps, with slices at most {GAP_TOLERANCE:.0%} of a gap away: one may be "
            "missing."
        )
    shift = np.linalg.norm(offsets - np.outer(depths, normal), axis=1).max()
    most = SHIFT_TOLERANCE * min(slices[0].spacing)
    if not shift <= most:
        raise UserError(
            f"{path} has slices that are shifted by up to {shift:.3g} mm, as by a tilted gantry; "
            f"expected at most {most:.3g} mm, half a pixel: resample it to right angles."
        )
    return ordered


def _affine(slices: Sequence[Slice]) -> Float64[np.ndarray, "4 4"]:
    """Return the transformation from stored voxels to mm: to the right, to the front, upwards."""
    first, last = slices[0], slices[-1]
    along_row, along_column = first.orientation
    between_rows, between_columns = first.spacing
    affine = np.eye(4)
    affine[:3, 0] = along_row * between_columns
    affine[:3, 1] = along_column * between_rows
    affine[:3, 2] = (last.position - first.position) / (len(slices) - 1)
    affine[:3, 3] = first.position
    return _TO_RAS @ affine


def _read_values(
    path: Path, slices: Iterable[Slice]
) -> Iterator[Float64[np.ndarray, "rows columns"]]:
    """Yield the values of the modality of slices in one file."""
    dataset = read_file(path, (*PIXEL_ELEMENTS, *MODALITY_ELEMENTS, *GROUP_ELEMENTS), pixels=True)
    for one in slices:
        stored = read_stored(dataset, one.frame)
        if stored.values.shape != one.size:
            raise DicomError("its size has changed since its header was read")
        with without_details("its rescale slope, intercept or look-up table is damaged"):
            group = frame_item(dataset, one.frame, "PixelValueTransformationSequence")
            yield read_modality(group, stored)(stored.values)
