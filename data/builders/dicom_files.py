"""DICOM files of a dataset: their patients as groups, and a summary for the terminal."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.formats.dicom.identity import patient_groups, read_identity
from data.labels import Labels, fill_groups
from data.storage import replacing
from lmf_jax.json_text import parse_json

DICOM_FILE = "dicom.json"
"""File of the summary in a prepared dataset; missing without DICOM files."""


@dataclass(frozen=True)
class DicomSummary:
    """Counts of DICOM files in a dataset.

    Attributes:
        images: Images that are DICOM files.
        burned_in: Those that declare burned-in annotation, (0028,0301) YES.
        patients: Different patients that became groups; 0 if groups are given or not known.
    """

    images: int
    burned_in: int
    patients: int

    @property
    def lines(self) -> list[str]:
        """Lines of text for the terminal."""
        lines = [f"{self.images:,} DICOM images were rendered to 8 bits, and no header was stored"]
        if self.patients:
            lines[0] += f"; {self.patients:,} patients were found by Patient ID, and hashed"
        return lines + burned_in_lines(self.burned_in, self.images)


def burned_in_lines(burned_in: int, images: int) -> list[str]:
    """Return a warning on burned-in annotation; none if no file declares any.

    Args:
        burned_in: Number of DICOM files that declare it.
        images: Number of images.
    """
    if not burned_in:
        return []
    verb = "declares" if burned_in == 1 else "declare"
    return [
        f"warning: {burned_in:,} of {images:,} DICOM images {verb} burned-in annotation "
        "(0028,0301), which may show names of patients in reports and figures"
    ]


def with_patients(labels: Labels, paths: Sequence[Path]) -> tuple[Labels, DicomSummary | None]:
    """Make the patients of DICOM files the groups of labels that have none.

    Args:
        labels: Labels of a dataset.
        paths: File of every image.

    Returns:
        The labels, and a summary; None without DICOM files.

    Raises:
        MissingPackageError: If there is a DICOM file, and pydicom is not installed.
    """
    with ThreadPoolExecutor() as pool:
        identities = list(pool.map(read_identity, paths))
    found = [identity for identity in identities if identity is not None]
    if not found:
        return labels, None
    burned_in = sum(identity.burned_in for identity in found)
    groups = patient_groups(identities) if labels.groups is None else None
    if groups is None:
        return labels, DicomSummary(len(found), burned_in, 0)
    patients = len(set(filter(None, groups)))
    filled = np.array(fill_groups(groups, labels.ids.tolist()))
    return replace(labels, groups=filled), DicomSummary(len(found), burned_in, patients)


def write_summary(folder: Path, summary: DicomSummary | None) -> None:
    """Record the summary in the folder of a prepared dataset, if there are DICOM files.

    Args:
        folder: The folder.
        summary: Summary to record.
    """
    if summary is not None:
        with replacing(folder / DICOM_FILE) as file:
            file.write(json.dumps(asdict(summary)).encode() + b"\n")


def read_summary(folder: Path) -> DicomSummary | None:
    """Return the summary recorded in a folder; None if there is none.

    Args:
        folder: Folder of a prepared dataset.

    Raises:
        ValueError: If the record is invalid.
        OSError: If it cannot be read.
    """
    path = folder / DICOM_FILE
    if not path.exists():
        return None
    content: Any = parse_json(path.read_bytes())
    names = list(DicomSummary.__annotations__)
    if not isinstance(content, dict) or sorted(content) != sorted(names):
        raise ValueError(f"{DICOM_FILE} holds no counts")
    if not all(type(number) is int and number >= 0 for number in content.values()):
        raise ValueError(f"{DICOM_FILE} holds no counts")
    return DicomSummary(**content)
