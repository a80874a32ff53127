"""DICOM series and enhanced files of small volumes, with a sentinel as name of the patient."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, generate_uid

from tests.helpers.dicom_files import SENTINEL, dicom_dataset, encode
from tests.helpers.volume_downloads import make_nnunet, own_case

Vector = tuple[float, float, float]

_TILT, _TURN = np.radians(20), np.radians(-12)

PLANES: dict[str, tuple[Vector, Vector]] = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "oblique": (
        (np.cos(_TURN), np.sin(_TURN), 0),
        (-np.sin(_TURN) * np.cos(_TILT), np.cos(_TURN) * np.cos(_TILT), np.sin(_TILT)),
    ),
}
"""Directions along a row and along a column: to the left, to the back, upwards."""


@dataclass(frozen=True)
class Grid:
    """Grid of a series.

    Attributes:
        plane: Name in :data:`PLANES`.
        spacing: Distance of slices, rows and columns, in mm.
        origin: Center of the first voxel: left, back, up, in mm.
    """

    plane: str = "axial"
    spacing: Vector = (3.0, 1.5, 1.0)
    origin: Vector = (5.0, -7.0, 11.0)

    def at(self, number: int) -> list[str]:
        """Return the position of a slice."""
        normal = np.cross(*PLANES[self.plane])
        return _decimals(np.add(self.origin, number * self.spacing[0] * normal))

    @property
    def plane_orientation(self) -> dict[str, Any]:
        """Elements of the orientation."""
        return {"ImageOrientationPatient": _decimals(np.ravel(PLANES[self.plane]))}

    @property
    def pixel_measures(self) -> dict[str, Any]:
        """Elements of the distances of rows and columns."""
        return {"PixelSpacing": _decimals(self.spacing[1:])}


def _decimals(values: Sequence[float]) -> list[str]:
    return [f"{value:.10g}" for value in values]


def series(
    pixels: np.ndarray,
    grid: Grid = Grid(),
    *,
    slopes: Sequence[float] = (1,),
    intercepts: Sequence[float] = (0,),
    **elements: Any,
) -> list[Dataset]:
    """Return a dataset for each slice of stored values, [slices, rows, columns].

    Slopes and intercepts are repeated if there are fewer than slices.
    """
    shared = {"SeriesInstanceUID": generate_uid(), "SOPClassUID": CTImageStorage, **elements}
    shared |= grid.plane_orientation | grid.pixel_measures
    return [
        dicom_dataset(
            image,
            ImagePositionPatient=grid.at(number),
            InstanceNumber=len(pixels) - number,
            RescaleSlope=slopes[number % len(slopes)],
            RescaleIntercept=intercepts[number % len(intercepts)],
            **shared,
        )
        for number, image in enumerate(pixels)
    ]


def enhanced(
    pixels: np.ndarray,
    grid: Grid = Grid(),
    *,
    slopes: Sequence[float] = (1,),
    intercepts: Sequence[float] = (0,),
    **elements: Any,
) -> Dataset:
    """Return a dataset whose frames are the slices from the last to the first."""
    shared = Dataset()
    shared.PlaneOrientationSequence = [_item(**grid.plane_orientation)]
    shared.PixelMeasuresSequence = [_item(**grid.pixel_measures)]
    order = range(len(pixels))[::-1]
    per_frame = []
    for number in order:
        group = Dataset()
        group.PlanePositionSequence = [_item(ImagePositionPatient=grid.at(number))]
        rescale = {
            "RescaleSlope": slopes[number % len(slopes)],
            "RescaleIntercept": intercepts[number % len(intercepts)],
        }
        group.PixelValueTransformationSequence = [_item(**rescale)]
        per_frame.append(group)
    every = np.ascontiguousarray(pixels[list(order)])
    return dicom_dataset(
        pixels[0],
        **{
            "SOPClassUID": EnhancedCTImageStorage,
            "SeriesInstanceUID": generate_uid(),
            "NumberOfFrames": len(pixels),
            "PixelData": every.tobytes() + bytes(every.nbytes % 2),
            "SharedFunctionalGroupsSequence": [shared],
            "PerFrameFunctionalGroupsSequence": per_frame,
            **elements,
        },
    )


def _item(**elements: Any) -> Dataset:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def write_series(folder: Path, datasets: Sequence[Dataset], seed: int = 0, **options: Any) -> Path:
    """Write a file for each dataset, with shuffled names without suffix; return the folder.

    Options are those of :func:`tests.helpers.dicom_files.encode`.
    """
    folder.mkdir(parents=True)
    for name, dataset in zip(
        np.random.default_rng(seed).permutation(len(datasets)).tolist(), datasets, strict=True
    ):
        (folder / f"IM{name:04d}").write_bytes(encode(dataset, **options))
    return folder


def write_enhanced(path: Path, dataset: Dataset, **options: Any) -> Path:
    """Write an enhanced file, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(dataset, **options))
    return path


def make_dicom_nnunet(root: Path, num_cases: int, num_patients: int) -> Path:
    """Make the folder of ``make_nnunet`` with one modality, whose images are DICOM series.

    Every third case is an enhanced file. The last cases are further scans of the first patients.

    Args:
        root: The folder; it is made.
        num_cases: How many cases.
        num_patients: How many patients have them.

    Returns:
        The folder.
    """
    make_nnunet(root, num_cases)
    for number in range(num_cases):
        ((image,), _, spacing) = own_case(number, 1)
        height, width = image.shape[1:]
        # Rows go to the back and columns to the left; the last of each is at (-5, 7) in RAS.
        back, left = -7 - (height - 1) * spacing[1], 5 - (width - 1) * spacing[2]
        grid = Grid("axial", spacing, (left, back, 11))
        pixels = np.rint(4 * (image[:, ::-1, ::-1] + 1024)).astype(np.uint16)
        options = dict(slopes=(0.25,), intercepts=(-1024,))
        patient = f"{SENTINEL}{number % num_patients}"
        file = root / "imagesTr" / f"scan-{number:02d}_0000.nii.gz"
        file.unlink()
        name = file.with_name(file.name.removesuffix(".nii.gz"))
        if number % 3 == 2:
            dataset = enhanced(pixels, grid, PatientID=patient, **options)
            write_enhanced(name.with_suffix(".dcm"), dataset)
        else:
            write_series(name, series(pixels, grid, PatientID=patient, **options))
    return root
