"""A reader of untrusted npz files.

``np.load`` allocates the memory that a header asks for and can run pickled code. Here NumPy parses
the header only; the values are read as bytes, whose number the header and the archive must agree
on.
"""

import math
import re
import warnings
import zipfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from lmf_jax.errors import UserError

_ENCRYPTED = 0x1
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""The compressions that NumPy writes. LZMA would allocate the memory that the file asks for."""

_LONGEST_REASON = 120


@dataclass(frozen=True)
class Array:
    """An open array of an npz file.

    Attributes:
        name: Name of the array.
        shape: Its shape, not negative.
        dtype: Its type, not Python objects.
        fortran_order: Whether the first index changes fastest in the stream.
        path: The npz file, for errors.
        stream: The bytes of the array, whose number is that of shape and type.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran_order: bool
    path: Path
    stream: zipfile.ZipExtFile

    def read(self, shape: Sequence[int]) -> np.ndarray:
        """Return the next values of the stream in C order.

        Args:
            shape: Their shape; the caller reads no more values than there are.

        Raises:
            UserError: If the file is damaged.
        """
        size = math.prod(shape) * self.dtype.itemsize
        with _refusing(self.path, self.name):
            content = self.stream.read(size)
            if len(content) < size:
                raise ValueError(f"it ends before the {self.shape} values of its header")
            values = np.ndarray(tuple(shape), self.dtype, content)
            if self.dtype.kind == "U":
                "".join(values.ravel().tolist()).encode()  # raises for invalid characters
            return values

    def read_all(self) -> np.ndarray:
        """Return all values.

        Raises:
            UserError: If the file is damaged.
        """
        if self.fortran_order:
            return self.read(self.shape[::-1]).T
        return self.read(self.shape)


def read_arrays(
    path: Path,
    *,
    largest: int,
    names: Collection[str] | None = None,
    optional: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Read arrays of an npz file.

    Args:
        path: The file.
        largest: Largest total size in bytes.
        names: The arrays to read (default: all).
        optional: Arrays to read if they exist.

    Returns:
        The arrays by name, read-only.

    Raises:
        UserError: If the file is missing or damaged, an array is missing, duplicated or made of
            Python objects, or the arrays are larger than ``largest``.
    """
    with open_npz(path) as archive:
        existing = {entry.filename.removesuffix(".npy") for entry in archive.infolist()}
        wanted = existing if names is None else {*names, *existing.intersection(optional)}
        size = sum(_entry(path, archive, name).file_size for name in wanted)
        if size > largest:
            raise UserError(f"{path} holds arrays of {size} bytes; expected {largest} at most.")
        arrays = {}
        for name in sorted(wanted):
            with open_array(path, archive, name) as array:
                arrays[name] = array.read_all()
        return arrays


@contextmanager
def open_npz(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an npz file and read its directory.

    Args:
        path: The file.

    Raises:
        UserError: If it is missing, not readable or not a zip archive.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file; expected an npz file, as np.savez writes it.")
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(
            f"{path} cannot be opened ({error.strerror}); check its permissions."
        ) from error
    with file:
        with _refusing(path, "its directory"):
            archive = zipfile.ZipFile(file)
        with archive:
            yield archive


@contextmanager
def open_array(path: Path, archive: zipfile.ZipFile, name: str) -> Iterator[Array]:
    """Open one array and read its header.

    Args:
        path: The npz file, for errors.
        archive: The open file.
        name: Name of the array.

    Raises:
        UserError: If the array is missing, duplicated, encrypted, damaged, made of Python objects,
            or its header and the archive disagree about its size.
    """
    entry = _entry(path, archive, name)
    with _refusing(path, name):
        stream = cast(zipfile.ZipExtFile, archive.open(entry))
    with stream:
        with _refusing(path, name):
            shape, fortran_order, dtype = _read_header(stream)
            header_size = stream.tell()
        if dtype.hasobject:
            raise UserError(
                f"{path} holds {name} as pickled Python objects, which can run any code when read; "
                "expected plain numbers."
            )
        size = header_size + math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or entry.file_size != size:
            raise UserError(
                f"{path} is damaged: the header of {name} says {shape} of {dtype}, and the archive "
                f"{entry.file_size} bytes; fetch or write it again."
            )
        yield Array(name, shape, dtype, fortran_order, path, stream)


def _entry(path: Path, archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """Return the entry of an array in the archive."""
    entries = [entry for entry in archive.infolist() if entry.filename == f"{name}.npy"]
    if not entries:
        found = ", ".join(entry.filename for entry in archive.infolist()[:10])
        raise UserError(f"{path} has no {name}; it holds {found or 'nothing'}.")
    if len(entries) > 1:
        raise UserError(f"{path} holds {name} {len(entries)} times; expected it once.")
    (entry,) = entries
    if entry.flag_bits & _ENCRYPTED:
        raise UserError(f"{path} holds {name} encrypted; expected a file without a password.")
    if entry.compress_type not in _COMPRESSIONS:
        raise UserError(
            f"{path} holds {name} in compression {entry.compress_type} of zip; expected that of "
            "np.savez or np.savez_compressed."
        )
    return entry


def _read_header(stream: zipfile.ZipExtFile) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read NumPy's header, or raise any exception."""
    # Later versions are for structured arrays, and their headers can have 4 GiB.
    if (version := np.lib.format.read_magic(stream)) != (1, 0):
        raise ValueError(f"version {version} of NumPy's format, expected (1, 0)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python's parser on a malformed header
        return np.lib.format.read_array_header_1_0(stream)


@contextmanager
def _refusing(path: Path, part: str) -> Iterator[None]:
    """Turn any exception of a library on a damaged file into one sentence."""
    try:
        yield
    except Exception as error:  # zipfile, zlib and ast raise nearly everything
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        reason = re.sub(" at 0x[0-9a-f]+", "", reason)  # of Python's objects, new in every run
        raise UserError(
            f"{path} is damaged or not an npz file: {part} cannot be read "
            f"({reason[:_LONGEST_REASON]}); fetch or write it again."
        ) from error
