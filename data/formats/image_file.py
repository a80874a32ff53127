"""Image files as bytes of a format that Pillow opens: DICOM is rendered, all others are unchanged.

What goes on from here has no header of a DICOM file, and so no name of a patient.
"""

from pathlib import Path

from data.formats.dicom.file import is_dicom
from data.formats.dicom.image import decode_dicom
from data.formats.images import read_encoded
from data.formats.png import encode_png


def read_image_file(path: Path) -> bytes:
    """Return the bytes of an image file; of a DICOM file, those of its rendering as PNG.

    Args:
        path: The file.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is too large or not a regular file, or a DICOM file that cannot be
            rendered; see :func:`data.formats.dicom.image.decode_dicom`.
        MissingPackageError: If it is a DICOM file, and pydicom is not installed.
    """
    return without_header(read_encoded(path))


def without_header(encoded: bytes) -> bytes:
    """Return the rendering of a DICOM file as PNG; other bytes unchanged.

    Args:
        encoded: Bytes of an image file.

    Raises:
        ValueError: If it is a DICOM file that cannot be rendered.
        MissingPackageError: If it is a DICOM file, and pydicom is not installed.
    """
    return encode_png(decode_dicom(encoded)) if is_dicom(encoded) else encoded
