"""Prepared datasets of volumes: one file per case, and an index of all."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from data.builders.unused_files import counted
from data.datasets.volumes.layout import find_own_volumes
from data.datasets.volumes.plan import parse_plan
from data.names import parse_volumes_name
from data.prepared.case_file import CaseFile
from data.prepared.images import INDEX_FILE, VERSION, own_folder
from data.storage import replacing
from data.volume_spec import VolumeSpec, volume_spec
from lmf_jax.errors import UserError
from lmf_jax.json_text import parse_json
from lmf_jax.npz import read_arrays

METHOD_VERSION = 1
"""Version of the preparation; changes if the same raw files would give other values."""

PLAN_FILE, FOREGROUND_FILE = "plan.json", "foreground.npz"
"""Files beside the index of a dataset of the user: its plan, and foreground values of CT."""

_LARGEST_INDEX = 2**28
_LARGEST_PLAN = 2**24
_LARGEST_FOREGROUND = 2**32


@dataclass(frozen=True, eq=False)
class PreparedVolumes:
    """All cases of a dataset, before any split.

    Attributes:
        spec: Specification of the dataset.
        ids: Name of every case, unicode [n].
        shapes: Voxels of every case along z, y, x, [n, 3].
        voxel_counts: Voxels of each class in every case, [n, C].
        digests: SHA-256, in hex, over the voxels of every case, unicode [n].
        fingerprint: SHA-256, in hex, over everything.
        folder: Folder of the dataset.
        groups: Patient of every case, unicode [n]; None if every case is another patient.
    """

    spec: VolumeSpec
    ids: Shaped[np.ndarray, " n"]
    shapes: Int64[np.ndarray, "n 3"]
    voxel_counts: Int64[np.ndarray, "n classes"]
    digests: Shaped[np.ndarray, " n"]
    fingerprint: str
    folder: Path
    groups: Shaped[np.ndarray, " n"] | None = None

    @property
    def num_patients(self) -> int | None:
        """Number of patients; None if every case is another patient."""
        return None if self.groups is None else len(np.unique(self.groups))

    @property
    def patient_lines(self) -> list[str]:
        """Line of the terminal on patients; none if every case is another patient."""
        if self.num_patients is None:
            return []
        cases, patients = counted(len(self.ids), "case"), counted(self.num_patients, "patient")
        return [f"{cases} of {patients}, which were found by Patient ID and hashed"]


def volumes_folder(name: str, data_dir: Path) -> Path:
    """Return the folder of a prepared dataset of volumes.

    For files of the user it depends on their names, sizes and modification times: changed files
    are another dataset.

    Args:
        name: Name of a dataset of volumes.
        data_dir: Folder of prepared datasets.

    Raises:
        UserError: If there is no such dataset, or the names of the user's files are ambiguous.
    """
    parsed = parse_volumes_name(name)
    if parsed.raw is None:
        return data_dir / parsed.kind / VERSION
    return own_folder(parsed, find_own_volumes(parsed.raw).files(), data_dir)


def prepared_spec(name: str, folder: Path) -> VolumeSpec:
    """Return the specification of a dataset; for files of the user, from the plan in its folder.

    Args:
        name: Name of a dataset of volumes.
        folder: Folder of the prepared dataset.

    Raises:
        UserError: If there is no such dataset, or its plan is missing or damaged.
    """
    parsed = parse_volumes_name(name)
    if parsed.raw is None:
        return volume_spec(parsed.kind)
    path = folder / PLAN_FILE
    try:
        if path.stat().st_size > _LARGEST_PLAN:
            raise ValueError("it is too large")
        return parse_plan(parse_json(path.read_bytes())).spec()
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} has no plan of this version; remove {folder} and prepare the dataset again."
        ) from error


def read_foreground(prepared: PreparedVolumes) -> Float32[np.ndarray, "n modalities samples"]:
    """Return the foreground values of every CT in every case; NaN without foreground.

    Args:
        prepared: A prepared dataset of the user.

    Raises:
        UserError: If the file is missing or damaged.
    """
    path = prepared.folder / FOREGROUND_FILE
    stored = read_arrays(path, largest=_LARGEST_FOREGROUND, names=("ids", "values"))
    ids, values = stored["ids"], stored["values"]
    assert prepared.spec.plan is not None
    if foreground_digest(ids, values) != prepared.spec.plan["foreground"]:
        raise UserError(
            f"{path} is not that of the dataset; remove {prepared.folder} and prepare the dataset "
            "again."
        )
    row_of = {case: row for row, case in enumerate(ids.tolist())}
    return values[[row_of[case] for case in prepared.ids.tolist()]]


def foreground_digest(
    ids: Shaped[np.ndarray, " n"], values: Shaped[np.ndarray, "n modalities samples"]
) -> str:
    """Return the SHA-256, in hex, over names of cases and their foreground values.

    Args:
        ids: Name of every case.
        values: Foreground values of every CT in every case.
    """
    digest = hashlib.sha256(json.dumps([ids.tolist(), values.shape]).encode())
    digest.update(values.astype("<f4").tobytes())
    return digest.hexdigest()


def case_path(folder: Path, case: str) -> Path:
    """Return the path of a prepared case.

    Args:
        folder: Folder of the prepared dataset.
        case: Name of the case.
    """
    return folder / f"{case}.volume"


def write_index(
    folder: Path, spec: VolumeSpec, cases: Sequence[CaseFile], groups: Mapping[str, str]
) -> None:
    """Write the index, which completes a prepared dataset.

    Args:
        folder: Folder of the prepared dataset.
        spec: Specification of the dataset.
        cases: All cases, in order.
        groups: Patient of every case, by name; empty if every case is another patient.
    """
    index: dict[str, Any] = {
        "ids": np.array([case.path.stem for case in cases]),
        "shapes": np.array([case.shape[:3] for case in cases], np.int64),
        "voxel_counts": np.array([case.voxel_counts for case in cases], np.int64),
        "digests": np.array([case.digest for case in cases]),
    }
    if groups:
        index["groups"] = np.array([groups[case] for case in index["ids"].tolist()])
    index["fingerprint"] = np.array(_fingerprint(spec, index))
    with replacing(folder / INDEX_FILE) as file:
        np.savez(file, **index)


def open_prepared_volumes(name: str, folder: Path) -> PreparedVolumes:
    """Open a prepared dataset without reading its cases.

    Args:
        name: Name of a dataset of volumes.
        folder: Folder of the dataset.

    Raises:
        UserError: If the folder has no complete dataset.
    """
    spec = prepared_spec(name, folder)
    names = ("ids", "shapes", "voxel_counts", "digests", "fingerprint")
    path = folder / INDEX_FILE
    index = read_arrays(path, largest=_LARGEST_INDEX, names=names, optional=("groups",))
    if not _fits(spec, index):
        raise UserError(
            f"{path} does not have the fingerprint recorded in it; remove {folder} and prepare the "
            "dataset again."
        )
    return PreparedVolumes(
        spec=spec,
        ids=index["ids"],
        shapes=index["shapes"],
        voxel_counts=index["voxel_counts"],
        digests=index["digests"],
        fingerprint=str(index["fingerprint"]),
        folder=folder,
        groups=index.get("groups"),
    )


def open_complete(name: str, folder: Path) -> PreparedVolumes | None:
    """Open a prepared dataset, or return None if it or the file of a case is missing.

    Args:
        name: Name of a dataset of volumes.
        folder: Folder of the dataset.
    """
    try:
        prepared = open_prepared_volumes(name, folder)
    except UserError:
        return None
    is_complete = all(case_path(folder, case).exists() for case in prepared.ids.tolist())
    return prepared if is_complete else None


def _fits(spec: VolumeSpec, index: Mapping[str, np.ndarray]) -> bool:
    ids, shapes, counts = index["ids"], index["shapes"], index["voxel_counts"]
    if ids.dtype.kind != "U" or ids.ndim != 1 or not len(ids):
        return False
    return (
        all(map(_is_file_name, ids.tolist()))
        and shapes.dtype == counts.dtype == np.int64
        and shapes.shape == (len(ids), 3)
        and counts.shape == (len(ids), len(spec.class_names))
        and index["digests"].shape == index.get("groups", ids).shape == ids.shape
        and str(index["fingerprint"]) == _fingerprint(spec, index)
    )


def _is_file_name(case: str) -> bool:
    """Return whether a case names a file that is directly in the folder, and is not hidden."""
    return bool(case) and case.isprintable() and case[0] != "." and "/" not in case


def _fingerprint(spec: VolumeSpec, index: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256, in hex, over the specification and the contents of the cases."""
    names = ("ids", "shapes", "voxel_counts", "digests", *(["groups"] if "groups" in index else []))
    known: list[Any] = [
        spec.class_names,
        spec.modalities,
        spec.spacing,
        *(index[n].tolist() for n in names),
    ]
    if spec.plan is not None:
        known.append(spec.plan)
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()
