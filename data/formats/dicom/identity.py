"""Patients of DICOM files as salted hashes, and declarations of burned-in annotation.

The salt is a hash over the SOP Instance UID and the Patient ID of every file of a dataset. It is
stored nowhere and cannot be computed from a prepared dataset, so the hashes cannot be reversed by
trying out Patient IDs. It depends on the files alone, so that preparing them again gives the same
groups, and with them the same split; it differs between datasets, so their patients cannot be
linked.
"""

import hashlib
import hmac
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from data.formats.dicom.file import DicomError, is_dicom, read_elements, without_details

_ELEMENTS = ("SOPInstanceUID", "PatientID", "BurnedInAnnotation")
_HEX_DIGITS = 16


class Identity(NamedTuple):
    """Identity in the header of a DICOM file; it stays in memory.

    Attributes:
        instance: SOP Instance UID.
        patient: Patient ID; "" if there is none.
        burned_in: Whether the file declares that annotation is burned into its pixels.
    """

    instance: str
    patient: str
    burned_in: bool


def read_identity(path: Path) -> Identity | None:
    """Read the identity of a DICOM file; None for a file that is not DICOM or cannot be read.

    Args:
        path: The file. Its pixels are not read.

    Raises:
        MissingPackageError: If it is a DICOM file, and pydicom is not installed.
    """
    if not path.is_file():  # a pipe would block
        return None
    try:
        with path.open("rb") as file:
            return identity_in(file) if is_dicom(file.read(132)) else None
    except (OSError, DicomError):  # reported by name when the image is decoded
        return None


def identity_in(file: bytes | io.BufferedIOBase) -> Identity:
    """Read the identity in a DICOM file.

    Args:
        file: Bytes of a DICOM file, or the open file.

    Raises:
        DicomError: If its header is damaged.
        MissingPackageError: If pydicom is not installed.
    """
    dataset = read_elements(file, _ELEMENTS, pixels=False)
    with without_details("its DICOM header is damaged"):
        instance, patient, burned_in = (str(dataset.get(key) or "").strip() for key in _ELEMENTS)
    return Identity(instance, patient, burned_in.upper() == "YES")


def patient_groups(identities: Sequence[Identity | None]) -> list[str] | None:
    """Return a salted hash of the Patient ID of every file; "" for files without one.

    Args:
        identities: Identity of every file of a dataset; None for one that is not DICOM.

    Returns:
        The hashes; None if no file, or every file, has the same Patient ID, which then tells
        nothing about patients.
    """
    patients = [None if found is None else found.patient for found in identities]
    if len(set(patients)) < 2 or not any(patients):
        return None
    known = sorted((found.instance, found.patient) for found in identities if found is not None)
    salt = hashlib.sha256(repr(known).encode("utf-8", "surrogateescape")).digest()
    return [_hash(salt, patient) if patient else "" for patient in patients]


def _hash(salt: bytes, patient: str) -> str:
    content = patient.encode("utf-8", "surrogateescape")
    digest = hmac.new(salt, content, hashlib.sha256).hexdigest()
    return f"patient {digest[:_HEX_DIGITS]}"
