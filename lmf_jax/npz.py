"""Arrays of an npz file, checked before they are believed.

``np.load`` takes the memory that a header asks for and, where it may, runs what is pickled in it.
Here only NumPy's header is parsed by NumPy; the rest is bytes, and as many as header and archive
agree on.
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
"""What NumPy writes. Others are no use here, and LZMA asks for memory as the file tells it to."""

_LONGEST_REASON = 120


@dataclass(frozen=True)
class Array:
    """An array of an npz file, ahead of its first byte.

    Attributes:
        name: Name of the array.
        shape: Its shape, nothing negative.
        dtype: Its type, which is no Python object.
        fortran_order: Whether the first index changes fastest in the stream.
        path: The npz file, for the errors.
        stream: The bytes of the array, as many as shape and type say.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran_order: bool
    path: Path
    stream: zipfile.ZipExtFile

    def read(self, shape: Sequence[int]) -> np.ndarray:
        """Returns the next values of the stream, as if in C order.

        Args:
            shape: How many; the caller reads no more than there are.

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
                "".join(
                    values.ravel().tolist()
                ).encode()  # raises where a number stands for no character
            return values

    def read_all(self) -> np.ndarray:
        """Returns all values.

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
    """Reads arrays of an npz file.

    Args:
        path: The file.
        largest: Bytes that all of them together may take.
        names: Those that are wanted; None takes whatever there is.
        optional: Those that are wanted if they are there.

    Returns:
        The arrays by name; they cannot be written to.

    Raises:
        UserError: If the file is missing or damaged, an array is missing, made of Python objects or
            there twice, or they take more memory than they may.
    """
    with open_npz(path) as archive:
        there = {entry.filename.removesuffix(".npy") for entry in archive.infolist()}
        wanted = there if names is None else {*names, *there.intersection(optional)}
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
    """Opens an npz file; nothing of it is read but its directory.

    Args:
        path: The file.

    Raises:
        UserError: If it is missing, may not be read or is no zip archive.
    """
    if not path.is_file():
        raise UserError(f"{path} is no file; expected one that np.savez wrote.")
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(
            f"{path} cannot be opened ({error.strerror}); check who may read it."
        ) from error
    with file:
        with _refusing(path, "its directory"):
            archive = zipfile.ZipFile(file)
        with archive:
            yield archive


@contextmanager
def open_array(path: Path, archive: zipfile.ZipFile, name: str) -> Iterator[Array]:
    """Opens one array; nothing of it is read but its header.

    Args:
        path: The npz file, for the errors.
        archive: The same, opened.
        name: Name of the array.

    Raises:
        UserError: If the array is missing, there twice, encrypted, damaged, made of Python
            objects, or its header and the archive disagree about its size.
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
                f"{path} holds {name} as pickled Python objects, which can run any code when they "
                "are read; expected plain numbers."
            )
        size = header_size + math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or entry.file_size != size:
            raise UserError(
                f"{path} is damaged: the header of {name} says {shape} of {dtype}, and the archive "
                f"{entry.file_size} bytes; fetch or write it again."
            )
        yield Array(name, shape, dtype, fortran_order, path, stream)


def _entry(path: Path, archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """Returns where an array lies in the archive."""
    entries = [entry for entry in archive.infolist() if entry.filename == f"{name}.npy"]
    if not entries:
        there = ", ".join(entry.filename for entry in archive.infolist()[:10])
        raise UserError(f"{path} has no {name}; it holds {there or 'nothing'}.")
    if len(entries) > 1:
        raise UserError(f"{path} holds {name} {len(entries)} times; expected it once.")
    (entry,) = entries
    if entry.flag_bits & _ENCRYPTED:
        raise UserError(f"{path} holds {name} encrypted; expected a file without a password.")
    if entry.compress_type not in _COMPRESSIONS:
        raise UserError(
            f"{path} holds {name} in compression {entry.compress_type} of zip; expected what "
            "np.savez or np.savez_compressed writes."
        )
    return entry


def _read_header(stream: zipfile.ZipExtFile) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Reads NumPy's header; raises anything if it is none."""
    # Later versions of the format are for structured arrays and let a header ask for 4 GiB.
    if (version := np.lib.format.read_magic(stream)) != (1, 0):
        raise ValueError(f"version {version} of NumPy's format, expected (1, 0)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python's parser, on what is no header
        return np.lib.format.read_array_header_1_0(stream)


@contextmanager
def _refusing(path: Path, what: str) -> Iterator[None]:
    """Turns whatever a damaged file makes a library raise into one sentence."""
    try:
        yield
    except Exception as error:  # zipfile, zlib and ast raise nearly everything
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        reason = re.sub(" at 0x[0-9a-f]+", "", reason)  # of Python's objects, new in every run
        raise UserError(
            f"{path} is damaged or no npz file: {what} cannot be read "
            f"({reason[:_LONGEST_REASON]}); fetch or write it again."
        ) from error
