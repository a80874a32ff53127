"""Volumes in files of any format: their grid in the body, and checks of it."""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Shaped

from lmf_jax.errors import UserError

LARGEST_VOLUME = 2**29
"""Maximum number of voxels: 2 GiB as float32, twice the largest scan of a whole trunk."""

SPACINGS = (0.05, 50.0)
"""Range of the size of a voxel, in mm."""


@dataclass(frozen=True, eq=False)
class VolumeFile(ABC):
    """Volume whose header was read and checked.

    Attributes:
        path: The file, or the folder of a DICOM series.
        shape: Voxels along the stored axes.
        orientation: Orientation as in nibabel: axis of the body and direction of every stored axis.
        affine: Transformation from voxels of the reoriented volume to mm, both in the order x (to
            the right), y (to the front), z (upwards).
    """

    path: Path
    shape: tuple[int, int, int]
    orientation: Float64[np.ndarray, "3 2"]
    affine: Float64[np.ndarray, "4 4"]

    @property
    def oriented_shape(self) -> tuple[int, int, int]:
        """Voxels along z, y, x."""
        sizes = dict(zip(self.orientation[:, 0].astype(int).tolist(), self.shape, strict=True))
        return sizes[2], sizes[1], sizes[0]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Size of a voxel along z, y, x in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return z, y, x

    @abstractmethod
    def read_image(self) -> Float32[np.ndarray, "depth height width"]:
        """Read the values of an image.

        Returns:
            float32, with the axes z (upwards), y (to the front) and x (to the right).

        Raises:
            UserError: If the file is damaged, or a value is not finite.
        """

    def _check_finite(self, values: Float32[np.ndarray, "*shape"]) -> None:
        if not np.isfinite(values).all():
            raise UserError(
                f"{self.path} has a value that is not finite; repair it or download it again."
            )

    def _oriented(self, values: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, "d h w"]:
        """Return values in stored order, the first axis fastest, with the axes z, y, x."""
        from nibabel.orientations import apply_orientation

        stored = values.reshape(self.shape, order="F")
        return np.ascontiguousarray(apply_orientation(stored, self.orientation).T)


def reorient(
    affine: Float64[np.ndarray, "4 4"], shape: tuple[int, int, int]
) -> tuple[Float64[np.ndarray, "3 2"], Float64[np.ndarray, "4 4"]]:
    """Return the orientation of stored axes, and the affine of the reoriented volume.

    Args:
        affine: Transformation from stored voxels to mm: to the right, to the front, upwards.
        shape: Voxels along the stored axes.
    """
    from nibabel.orientations import inv_ornt_aff, io_orientation

    orientation = io_orientation(affine)
    return orientation, np.asarray(affine @ inv_ornt_aff(orientation, shape))


def check_shape(path: Path, shape: Sequence[int]) -> None:
    """Reject a volume that does not have three dimensions, or has too many voxels.

    Args:
        path: Its file, for the error.
        shape: Voxels along the stored axes.

    Raises:
        UserError: If the shape is not plausible.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise UserError(
            f"{path} has {_by(shape) or 'no'} values; expected one volume of three dimensions."
        )
    if math.prod(shape) > LARGEST_VOLUME:
        raise UserError(
            f"{path} claims {_by(shape)} voxels; expected at most {LARGEST_VOLUME} in all."
        )


def check_spacing(path: Path, affine: Float64[np.ndarray, "4 4"]) -> None:
    """Reject voxels of an implausible size, and axes that do not span three dimensions.

    Args:
        path: File of the volume, for the error.
        affine: Transformation from voxels to mm.

    Raises:
        UserError: If the affine is not plausible.
    """
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and np.all((edges >= SPACINGS[0]) & (edges <= SPACINGS[1]))):
        raise UserError(
            f"{path} claims voxels of {' x '.join(f'{edge:.3g}' for edge in edges)} mm; expected "
            f"{SPACINGS[0]} to {SPACINGS[1]:g} mm along each axis."
        )
    # Volume of a voxel relative to a box with the same edges: 1 for right angles.
    if not abs(np.linalg.det(affine[:3, :3] / edges)) > 0.5:
        raise UserError(f"{path} claims axes that do not span three dimensions; repair its header.")


def check_same_space(file: VolumeFile, other: VolumeFile) -> None:
    """Reject two volumes with different grids.

    The corners may be half a voxel apart, since headers are rounded and represent a rotation in two
    ways.

    Args:
        file: File of a case.
        other: Another file of the same case.

    Raises:
        UserError: If shapes or positions differ.
    """
    shape = file.oriented_shape
    if other.oriented_shape != shape:
        raise UserError(
            f"{other.path} has {_by(other.oriented_shape)} voxels and {file.path.name} "
            f"{_by(shape)}; expected the same grid."
        )
    corners = np.array([[*c, 1] for c in itertools.product(*((0, n - 1) for n in shape[::-1]))])
    apart = np.linalg.norm(corners @ (file.affine - other.affine).T, axis=1).max()
    if not apart <= min(file.spacing) / 2:
        raise UserError(
            f"{other.path} is up to {apart:.3g} mm from {file.path.name}; expected the same grid."
        )


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
