"""DICOM series and enhanced files are read as volumes equal to the same volumes in NIfTI."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
)

from data.formats.dicom.volume import open_dicom_volume
from data.formats.nifti import open_nifti, write_label_map
from tests.helpers.dicom_series import PLANES, Grid, enhanced, series, write_enhanced, write_series
from tests.helpers.volume_downloads import stored

RNG = np.random.default_rng(0)
SHAPE = (5, 6, 7)
SIGNED = RNG.integers(-1000, 3000, SHAPE).astype(np.int16)
UNSIGNED = RNG.integers(0, 4096, SHAPE).astype(np.uint16)
SLOPES, INTERCEPTS = (2.0, 0.5, 1.25, 3.0, 0.25), (-1024.0, 7.5, 0.0, -3.0, 100.0)


def affine_of(grid: Grid) -> np.ndarray:
    """Return the affine of a grid from the places of four of its voxels, in RAS."""

    def place(column: int, row: int, number: int) -> np.ndarray:
        along_row, along_column = np.array(PLANES[grid.plane])
        gap, between_rows, between_columns = grid.spacing
        left, back, up = (
            np.array(grid.origin)
            + column * between_columns * along_row
            + row * between_rows * along_column
            + number * gap * np.cross(along_row, along_column)
        )
        return np.array([-left, -back, up])

    affine = np.eye(4)
    affine[:3, 3] = place(0, 0, 0)
    for axis, voxel in enumerate(np.eye(3, dtype=int).tolist()):
        affine[:3, axis] = place(*voxel) - affine[:3, 3]
    return affine


def save_as_nifti(path: Path, values: np.ndarray, grid: Grid) -> None:
    image = nibabel.Nifti1Image(values.astype(np.float32).transpose(2, 1, 0), affine_of(grid))
    nibabel.save(image, path)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("pixels", [SIGNED, UNSIGNED], ids=["signed", "unsigned"])
@pytest.mark.parametrize("is_enhanced", [False, True], ids=["classic", "enhanced"])
@pytest.mark.parametrize("is_rescaled", [False, True], ids=["plain", "rescaled"])
def test_a_volume_is_that_of_the_same_nifti_file(
    plane: str, pixels: np.ndarray, is_enhanced: bool, is_rescaled: bool, tmp_path: Path
) -> None:
    grid = Grid(plane)
    slopes, intercepts = (SLOPES, INTERCEPTS) if is_rescaled else ((1,), (0,))
    options = dict(slopes=slopes, intercepts=intercepts)
    if is_enhanced:
        path = write_enhanced(tmp_path / "a.dcm", enhanced(pixels, grid, **options))
    else:
        path = write_series(tmp_path / "a", series(pixels, grid, **options), seed=len(plane))
    volume = open_dicom_volume(path)
    expected = np.reshape(slopes, (-1, 1, 1)) * pixels + np.reshape(intercepts, (-1, 1, 1))

    save_as_nifti(tmp_path / "b.nii", expected, grid)
    nifti = open_nifti(tmp_path / "b.nii")
    assert volume.oriented_shape == nifti.oriented_shape
    np.testing.assert_allclose(volume.spacing, nifti.spacing, rtol=1e-5)
    np.testing.assert_allclose(volume.affine, nifti.affine, atol=1e-5)
    np.testing.assert_array_equal(volume.orientation, nifti.orientation)
    image = volume.read_image()
    assert image.dtype == np.float32 and image.flags.c_contiguous
    np.testing.assert_array_equal(image, stored(tmp_path / "b.nii"))
    np.testing.assert_array_equal(image, nifti.read_image())

    write_label_map(tmp_path / "mask.nii.gz", (image > 0).astype(np.uint8), volume)
    mask = nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_allclose(mask.affine, affine_of(grid), atol=1e-5)
    np.testing.assert_array_equal(mask.dataobj, expected.transpose(2, 1, 0) > 0)


LARGE = RNG.integers(0, 4096, (2, 40, 32)).astype(np.uint16)  # as the writer of JPEG 2000 asks for
SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
SYNTAXES += [RLELossless, JPEG2000Lossless]


@pytest.mark.parametrize("syntax", [*SYNTAXES, JPEGLosslessSV1], ids=lambda syntax: syntax.name)
def test_every_transfer_syntax_of_slices_is_read(syntax: str, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", series(LARGE), syntax=syntax)
    np.testing.assert_array_equal(read_upright(folder), LARGE)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
def test_every_transfer_syntax_of_frames_is_read(syntax: str, tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "a.dcm", enhanced(LARGE), syntax=syntax)
    np.testing.assert_array_equal(read_upright(path), LARGE)


def read_upright(path: Path) -> np.ndarray:
    """Return an axial volume as slices, rows and columns."""
    return open_dicom_volume(path).read_image()[:, ::-1, ::-1]


def test_a_folder_may_hold_one_enhanced_file(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "a" / "x.dcm", enhanced(SIGNED))
    np.testing.assert_array_equal(read_upright(tmp_path / "a"), SIGNED)


def test_files_that_are_clearly_not_dicom_are_ignored(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", series(SIGNED))
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (folder / "notes.txt").write_text("a remark")
    (folder / "._IM0001.dcm").write_bytes(b"of a Mac")
    (folder / "mask.nii.gz").write_bytes(b"\x1f\x8b")
    (folder / "older").mkdir()
    np.testing.assert_array_equal(read_upright(folder), SIGNED)
