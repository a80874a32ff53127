"""Reading and writing of NIfTI files, with axes in the orientation of the body.

nibabel parses the header and converts orientations. The sizes in a header are compared with the
file before they are used, so a small file cannot take much memory or time.
"""

import contextlib
import gzip
import io
import itertools
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Shaped, UInt8, UInt16

from data.storage import replacing
from lmf_jax.errors import UserError

LARGEST_VOLUME = 2**29
"""Maximum number of voxels: 2 GiB as float32, twice the largest scan of a whole trunk."""

SPACINGS = (0.05, 50.0)
"""Range of the size of a voxel, in mm."""

LABEL_TOLERANCE = 1e-3
"""Tolerance of stored labels, which scaling by slope and intercept rounds."""

LARGEST_LABEL = 2**16 - 1
"""Largest value of a label."""

_CHUNK = 2**24
_LONGEST_EXTENSIONS = 2**24
_DEFLATE_RATIO = 1032
"""Maximum compression ratio of the format."""


@dataclass(frozen=True, eq=False)
class NiftiFile:
    """NIfTI file with a header that was read and checked.

    Attributes:
        path: The file.
        shape: Voxels along the stored axes.
        dtype: Type of the stored values.
        offset: Bytes before the first voxel.
        scaling: Slope and intercept of the stored values; None for each without effect.
        orientation: Orientation as in nibabel: axis of the body and direction of every stored axis.
        affine: Transformation from voxels of the reoriented volume to mm, both in the order x (to
            the right), y (to the front), z (upwards).
    """

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype
    offset: int
    scaling: tuple[float | None, float | None]
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

    def read_image(self) -> Float32[np.ndarray, "depth height width"]:
        """Read the values of an image.

        Returns:
            float32, with the axes z (upwards), y (to the front) and x (to the right).

        Raises:
            UserError: If the file is damaged, or a value is not finite.
        """
        image = np.empty(math.prod(self.shape), np.float32)
        for part, values in self._chunks():
            with np.errstate(over="ignore", invalid="ignore"):
                image[part] = values
            if not np.isfinite(image[part]).all():
                raise UserError(
                    f"{self.path} has a value that is not finite; repair it or download it again."
                )
        return self._oriented(image)

    def read_labels(self, values: Sequence[int]) -> UInt8[np.ndarray, "depth height width"]:
        """Read a label map.

        Args:
            values: Label of every class, by class id.

        Returns:
            Class ids, with the axes of :meth:`read_image`. A value within
            :data:`LABEL_TOLERANCE` of a label counts as that label.

        Raises:
            UserError: If the file is damaged, or has another label.
        """
        ids = np.empty(math.prod(self.shape), np.uint8)
        for part, stored in self._chunks():
            stored = stored.astype(np.float64)  # differences of unsigned integers would wrap
            known = np.zeros(len(stored), bool)
            for number, value in enumerate(values):
                here = np.abs(stored - value) <= LABEL_TOLERANCE
                ids[part][here] = number
                known |= here
            if not known.all():
                raise UserError(
                    f"{self.path} has the label {stored[~known][0]:.9g}; expected "
                    f"{', '.join(map(str, values))}."
                )
        return self._oriented(ids)

    def label_values(self, most: int) -> tuple[int, ...]:
        """Return the labels in a label map, in ascending order.

        Args:
            most: Maximum number of labels.

        Raises:
            UserError: If the file is damaged, has more labels, or a value that is not a label: a
                whole number from 0 to :data:`LARGEST_LABEL`, within :data:`LABEL_TOLERANCE`.
        """
        found: set[int] = set()
        for _, stored in self._chunks():
            values = np.unique(stored.astype(np.float64))
            with np.errstate(invalid="ignore"):
                near = np.abs(values - np.rint(values)) <= LABEL_TOLERANCE
            wrong = values[~(near & (values > -0.5) & (values < LARGEST_LABEL + 0.5))]
            if len(wrong):
                raise UserError(
                    f"{self.path} has the label {wrong[0]:.9g}; expected whole numbers from 0 to "
                    f"{LARGEST_LABEL}."
                )
            found.update(np.rint(values).astype(int).tolist())
            if len(found) > most:
                raise UserError(
                    f"{self.path} has more than {most} labels; expected a label map, not an image."
                )
        return tuple(sorted(found))

    def _chunks(self) -> Iterator[tuple[slice, Shaped[np.ndarray, " _"]]]:
        """Yield the values in chunks in the order of the file, each with its slice."""
        from nibabel.volumeutils import apply_read_scaling

        count = math.prod(self.shape)
        most = _CHUNK // self.dtype.itemsize
        with _open_stream(self.path) as stream:
            stream.read(self.offset)
            for start in range(0, count, most):
                part = slice(start, min(count, start + most))
                size = (part.stop - start) * self.dtype.itemsize
                content = stream.read(size)
                if len(content) < size:
                    raise EOFError("it ends before its last voxel")
                with np.errstate(over="ignore", invalid="ignore"):
                    values = apply_read_scaling(np.frombuffer(content, self.dtype), *self.scaling)
                yield part, values
            if stream.read(1):  # gzip compares its checksum only at the end
                raise ValueError("it continues after its last voxel")

    def _oriented(self, values: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, "d h w"]:
        from nibabel.orientations import apply_orientation

        stored = values.reshape(self.shape, order="F")
        return np.ascontiguousarray(apply_orientation(stored, self.orientation).T)


def open_nifti(path: Path) -> NiftiFile:
    """Read the header of a NIfTI file, compressed by gzip or not.

    Args:
        path: The file.

    Raises:
        UserError: If it cannot be read, is not a NIfTI file of one volume, has a header that does
            not fit the file or is implausible, or nibabel is not installed.
    """
    try:
        import nibabel
    except ImportError:
        raise UserError(
            "Reading NIfTI files needs nibabel, which is not installed; run: "
            "pip install -e '.[volumes]'"
        ) from None
    with _open_stream(path) as stream, np.errstate(all="ignore"):
        header = _parse_header(stream)
        shape, dtype = header.get_data_shape(), header.get_data_dtype()
        while len(shape) > 3 and shape[-1] == 1:  # one volume of a series
            shape = shape[:-1]
        _check_values(path, shape, dtype)
        offset = header.get_data_offset()
        _check_size(path, shape, dtype, offset, header.single_vox_offset, type(stream))
        affine = np.asarray(header.get_best_affine(), np.float64)
        _check_spacing(path, affine)
        orientation = nibabel.io_orientation(affine)
        turned = affine @ nibabel.orientations.inv_ornt_aff(orientation, shape)
        return NiftiFile(
            path, shape, dtype, offset, header.get_slope_inter(), orientation, np.asarray(turned)
        )


def write_label_map(
    path: Path,
    values: UInt8[np.ndarray, "depth height width"] | UInt16[np.ndarray, "depth height width"],
    like: NiftiFile,
) -> None:
    """Write a label map with the grid and the stored orientation of a volume.

    Args:
        path: File to write, compressed by gzip.
        values: Label of every voxel, with the axes of :meth:`NiftiFile.read_image`.
        like: The volume.
    """
    from nibabel import Nifti1Image, orientations

    upright = orientations.axcodes2ornt("RAS")
    back = orientations.ornt_transform(upright, like.orientation)
    stored = orientations.apply_orientation(values.T, back)
    turn = orientations.inv_ornt_aff(like.orientation, like.shape)
    image = Nifti1Image(stored, like.affine @ np.linalg.inv(turn))
    image.header.set_xyzt_units("mm")
    # Programs differ in which of the two transformations they read.
    image.set_sform(image.affine, code="scanner")
    image.set_qform(image.affine, code="scanner")
    with replacing(path) as file:
        file.write(gzip.compress(image.to_bytes(), mtime=0))


def check_same_space(file: NiftiFile, other: NiftiFile) -> None:
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


def _parse_header(stream: io.BufferedIOBase) -> Any:
    """Return the header of a single-file NIfTI; raise any exception if it has none."""
    import nibabel

    kinds = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
    start = stream.read(4)
    for order in "<>":
        (size,) = struct.unpack(f"{order}i", start)
        if size in kinds:
            header = kinds[size](start + stream.read(size - 4), order, check=False)
            if header["magic"].item()[:3] not in (b"n+1", b"n+2"):
                raise ValueError("its voxels are not in the same file")
            return header
    raise ValueError("it has no NIfTI header")


def _check_values(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if len(shape) != 3 or min(shape) < 1:
        raise UserError(
            f"{path} has {_by(shape) or 'no'} values; expected one volume of three dimensions."
        )
    if math.prod(shape) > LARGEST_VOLUME:
        raise UserError(
            f"{path} claims {_by(shape)} voxels; expected at most {LARGEST_VOLUME} in all."
        )
    if dtype.kind not in "iuf":
        raise UserError(f"{path} has {dtype.name} values; expected one real number per voxel.")


def _check_size(
    path: Path, shape: tuple[int, ...], dtype: np.dtype, offset: int, least: int, kind: type
) -> None:
    if not least <= offset <= _LONGEST_EXTENSIONS:
        raise UserError(
            f"{path} claims that its voxels begin at byte {offset}; expected {least} to "
            f"{_LONGEST_EXTENSIONS}."
        )
    size = path.stat().st_size
    claimed = offset + math.prod(shape) * dtype.itemsize
    if claimed > size * (_DEFLATE_RATIO if kind is gzip.GzipFile else 1):
        raise UserError(
            f"{path} is truncated: its header claims {claimed} bytes, more than {size} bytes can "
            "hold; download it again."
        )


def _check_spacing(path: Path, affine: Float64[np.ndarray, "4 4"]) -> None:
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and np.all((edges >= SPACINGS[0]) & (edges <= SPACINGS[1]))):
        raise UserError(
            f"{path} claims voxels of {' x '.join(f'{edge:.3g}' for edge in edges)} mm; expected "
            f"{SPACINGS[0]} to {SPACINGS[1]:g} mm along each axis."
        )
    # Volume of a voxel relative to a box with the same edges: 1 for right angles.
    if not abs(np.linalg.det(affine[:3, :3] / edges)) > 0.5:
        raise UserError(f"{path} claims axes that do not span three dimensions; repair its header.")


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


@contextlib.contextmanager
def _open_stream(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open a file, with gzip if it is compressed; convert every exception to ``UserError``."""
    try:
        with path.open("rb") as file:
            is_compressed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not is_compressed:
                yield file
                return
            with gzip.GzipFile(fileobj=file) as stream:
                yield stream
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path} is missing; check the folder of the download.") from None
    except Exception as error:  # gzip, zlib, struct and nibabel share no base exception
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UserError(
            f"{path} is damaged or not a NIfTI file ({reason[:120]}); download it again."
        ) from error
