"""Prepared datasets of volumes: one file per case, and an index of all."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped

from data.prepared.case_file import CaseFile
from data.prepared.images import INDEX_FILE, VERSION
from data.storage import replacing
from data.volume_spec import VolumeSpec, volume_spec
from lmf_jax.errors import UserError
from lmf_jax.npz import read_arrays

METHOD_VERSION = 1
"""Version of the preparation; changes if the same raw files would give other values."""

_LARGEST_INDEX = 2**28


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
    """

    spec: VolumeSpec
    ids: Shaped[np.ndarray, " n"]
    shapes: Int64[np.ndarray, "n 3"]
    voxel_counts: Int64[np.ndarray, "n classes"]
    digests: Shaped[np.ndarray, " n"]
    fingerprint: str
    folder: Path


def volumes_folder(name: str, data_dir: Path) -> Path:
    """Return the folder of a prepared dataset of volumes.

    Args:
        name: Name of a dataset of volumes.
        data_dir: Folder of prepared datasets.
    """
    return data_dir / name / VERSION


def case_path(folder: Path, case: str) -> Path:
    """Return the path of a prepared case.

    Args:
        folder: Folder of the prepared dataset.
        case: Name of the case.
    """
    return folder / f"{case}.volume"


def write_index(folder: Path, spec: VolumeSpec, cases: Sequence[CaseFile]) -> None:
    """Write the index, which completes a prepared dataset.

    Args:
        folder: Folder of the prepared dataset.
        spec: Specification of the dataset.
        cases: All cases, in order.
    """
    index: dict[str, Any] = {
        "ids": np.array([case.path.stem for case in cases]),
        "shapes": np.array([case.shape[:3] for case in cases], np.int64),
        "voxel_counts": np.array([case.voxel_counts for case in cases], np.int64),
        "digests": np.array([case.digest for case in cases]),
    }
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
    spec = volume_spec(name)
    names = ("ids", "shapes", "voxel_counts", "digests", "fingerprint")
    index = read_arrays(folder / INDEX_FILE, largest=_LARGEST_INDEX, names=names)
    if not _fits(spec, index):
        raise UserError(
            f"{folder / INDEX_FILE} does not have the fingerprint recorded in it; remove {folder} "
            "and prepare the dataset again."
        )
    return PreparedVolumes(
        spec=spec,
        ids=index["ids"],
        shapes=index["shapes"],
        voxel_counts=index["voxel_counts"],
        digests=index["digests"],
        fingerprint=str(index["fingerprint"]),
        folder=folder,
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
        all(name.isidentifier() for name in ids.tolist())
        and shapes.dtype == counts.dtype == np.int64
        and shapes.shape == (len(ids), 3)
        and counts.shape == (len(ids), len(spec.class_names))
        and index["digests"].shape == ids.shape
        and str(index["fingerprint"]) == _fingerprint(spec, index)
    )


def _fingerprint(spec: VolumeSpec, index: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256, in hex, over the specification and the contents of the cases."""
    names = ("ids", "shapes", "voxel_counts", "digests")
    known = [spec.class_names, spec.modalities, spec.spacing, *(index[n].tolist() for n in names)]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()
