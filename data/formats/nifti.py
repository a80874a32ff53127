"""Reading and writing of NIfTI files, with axes in the orientation of the body.

nibabel parses the header and converts orientations. The sizes in a header are compared with the
file before they are used, so a small file cannot take much memory or time.
"""

import contextlib
import gzip
import io
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped, UInt8, UInt16

from data.formats.volume_file import VolumeFile, check_shape, check_spacing, reorient
from data.storage import replacing
from lmf_jax.errors import UserError

LABEL_TOLERANCE = 1e-3
"""Tolerance of stored labels, which scaling by slope and intercept rounds."""

LARGEST_LABEL = 2**16 - 1
"""Largest value of a label."""

_CHUNK = 2**24
_LONGEST_EXTENSIONS = 2**24
_DEFLATE_RATIO = 1032
"""Maximum compression ratio of the format."""


@dataclass(frozen=True, eq=False)
class NiftiFile(VolumeFile):
    """NIfTI file with a header that was read and checked.

    Attributes:
        dtype: Type of the stored values.
        offset: Bytes before the first voxel.
        scaling: Slope and intercept of the stored values; None for each without effect.
        content: Bytes of the file, if they were read before.
    """

    dtype: np.dtype
    offset: int
    scaling: tuple[float | None, float | None]
    content: bytes | None = None

    def read_image(self) -> Float32[np.ndarray, "depth height width"]:
        """Read the values of an image, see :meth:`VolumeFile.read_image`."""
        image = np.empty(math.prod(self.shape), np.float32)
        for part, values in self._chunks():
            with np.errstate(over="ignore", invalid="ignore"):
                image[part] = values
            self._check_finite(image[part])
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
        with _open_stream(self.path, self.content) as stream:
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


def open_nifti(path: Path, content: bytes | None = None) -> NiftiFile:
    """Read the header of a NIfTI file, compressed by gzip or not.

    Args:
        path: The file.
        content: Its bytes; with them, the path only names it in errors.

    Raises:
        UserError: If it cannot be read, is not a NIfTI file of one volume, has a header that does
            not fit the file or is implausible, or nibabel is not installed.
    """
    try:
        import nibabel  # noqa: F401
    except ImportError:
        raise UserError(
            "Reading NIfTI files needs nibabel, which is not installed; run: "
            "pip install -e '.[volumes]'"
        ) from None
    with _open_stream(path, content) as stream, np.errstate(all="ignore"):
        header = _parse_header(stream)
        shape, dtype = header.get_data_shape(), header.get_data_dtype()
        while len(shape) > 3 and shape[-1] == 1:  # one volume of a series
            shape = shape[:-1]
        check_shape(path, shape)
        if dtype.kind not in "iuf":
            raise UserError(f"{path} has {dtype.name} values; expected one real number per voxel.")
        offset = header.get_data_offset()
        size = path.stat().st_size if content is None else len(content)
        _check_size(path, size, shape, dtype, offset, header.single_vox_offset, type(stream))
        affine = np.asarray(header.get_best_affine(), np.float64)
        check_spacing(path, affine)
        orientation, turned = reorient(affine, shape)
        scaling = header.get_slope_inter()
        return NiftiFile(path, shape, orientation, turned, dtype, offset, scaling, content)


def write_label_map(
    path: Path,
    values: UInt8[np.ndarray, "depth height width"] | UInt16[np.ndarray, "depth height width"],
    like: VolumeFile,
) -> None:
    """Write a label map with the grid and the stored orientation of a volume.

    Args:
        path: File to write, compressed by gzip.
        values: Label of every voxel, with the axes of :meth:`VolumeFile.read_image`.
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


def _check_size(
    path: Path,
    size: int,
    shape: tuple[int, ...],
    dtype: np.dtype,
    offset: int,
    least: int,
    kind: type,
) -> None:
    if not least <= offset <= _LONGEST_EXTENSIONS:
        raise UserError(
            f"{path} claims that its voxels begin at byte {offset}; expected {least} to "
            f"{_LONGEST_EXTENSIONS}."
        )
    claimed = offset + math.prod(shape) * dtype.itemsize
    if claimed > size * (_DEFLATE_RATIO if kind is gzip.GzipFile else 1):
        raise UserError(
            f"{path} is truncated: its header claims {claimed} bytes, more than {size} bytes can "
            "hold; download it again."
        )


@contextlib.contextmanager
def _open_stream(path: Path, content: bytes | None) -> Iterator[io.BufferedIOBase]:
    """Open a file, with gzip if it is compressed; convert every exception to ``UserError``."""
    try:
        with path.open("rb") if content is None else io.BytesIO(content) as file:
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
