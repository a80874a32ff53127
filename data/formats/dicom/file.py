"""Reading of chosen elements of a DICOM file, so that no identity enters the program.

pydicom parses the file. Its exceptions, warnings and log records quote the header, which names
patients, so none of them is passed on: :class:`DicomError` has a fixed text, and numbers at most.
"""

import contextlib
import io
import logging
import warnings
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lmf_jax.extras import MissingPackageError, extra_packages

if TYPE_CHECKING:
    from pydicom import Dataset

LARGEST_INFLATED = 2**30
"""Maximum bytes of a deflated header and image, as of an image file."""

INDEX_NAME = "dicomdir"
"""Name, in lower case, of the DICOM file that lists the others of a folder."""

_PREAMBLE, _MAGIC = 128, b"DICM"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_CHUNK = 2**24


class DicomError(ValueError):
    """The reason why a DICOM file cannot be read; it quotes no text of the header."""


def is_dicom(encoded: bytes) -> bool:
    """Return whether a file begins as a DICOM file does (PS3.10, 7.1).

    Args:
        encoded: Its bytes, at least the first 132.
    """
    return encoded.startswith(_MAGIC, _PREAMBLE)


def read_elements(
    file: bytes | io.BufferedIOBase, keywords: Sequence[str], *, pixels: bool
) -> "Dataset":
    """Read some elements of a DICOM file; all others are skipped.

    Args:
        file: Bytes of a file, or an open file.
        keywords: Keywords of the elements, such as "Rows".
        pixels: Whether to read on at the pixel data, which end the header.

    Returns:
        Dataset of pydicom with those elements that the file has. Values are parsed when they are
        first used; do so inside :func:`without_details`.

    Raises:
        DicomError: If the file is damaged or inflates to too many bytes.
        MissingPackageError: If pydicom is not installed.
    """
    with extra_packages("dicom", needed_by="Reading DICOM files"):
        from pydicom import dcmread
    stream = io.BytesIO(file) if isinstance(file, bytes) else _BoundedFile(file)
    with without_details("its DICOM header is damaged"):
        _check_inflated_size(stream)
        stream.seek(0)
        return dcmread(stream, stop_before_pixels=not pixels, specific_tags=list(keywords))


class _BoundedFile(io.BufferedIOBase):
    """Open file of which no more is read than it has.

    Python allocates the bytes to read before it reads them, and their number may be a false length
    in the header.
    """

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file
        self._size = file.seek(0, io.SEEK_END)

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._size - self._file.tell())
        return self._file.read(left if size is None or size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


@contextlib.contextmanager
def without_details(reason: str) -> Iterator[None]:
    """Replace exceptions of pydicom and its decoders, which may quote the header.

    Args:
        reason: Text of the error to raise instead.

    Raises:
        DicomError: For every exception but those of this package.
    """
    _silence_pydicom()
    try:
        yield
    except (DicomError, MissingPackageError):
        raise
    except Exception:  # pydicom and its decoders share no base exception
        raise DicomError(reason) from None


def _silence_pydicom() -> None:
    """Suppress warnings and log records of pydicom and of the decoder of JPEG 2000.

    The filter is global, since ``catch_warnings`` is not safe in threads, and set at every call,
    since other modules and pytest reset the filters.
    """
    for name in ("pydicom", "openjpeg"):
        logger = logging.getLogger(name)
        if logger.propagate:
            logger.propagate = False
            logger.addHandler(logging.NullHandler())
    warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")


def _check_inflated_size(stream: io.BufferedIOBase) -> None:
    """Refuse a deflated file of too many bytes: pydicom inflates it without a limit."""
    from pydicom.filereader import read_dataset

    stream.seek(_PREAMBLE + len(_MAGIC))
    # pydicom asks for a BinaryIO, whose interface BufferedIOBase has without being one.
    source: Any = stream
    meta = read_dataset(source, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if str(meta.get("TransferSyntaxUID", "")) != _DEFLATED:
        return
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    size = 0
    while chunk := inflater.unconsumed_tail or stream.read(_CHUNK):
        size += len(inflater.decompress(chunk, _CHUNK))
        if size > LARGEST_INFLATED:
            raise DicomError(f"it inflates to more than {LARGEST_INFLATED} bytes")
