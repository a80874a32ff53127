"""Opens a dataset of prepared volumes: a file for every case, and an index of all."""

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
"""Changes whenever the same raw files would be prepared to other values."""

_LARGEST_INDEX = 2**28


@dataclass(frozen=True, eq=False)
class PreparedVolumes:
    """All cases of a dataset, before any split.

    Attributes:
        spec: What is known of the dataset.
        ids: Name of every case, unicode [n].
        shapes: Voxels of every case along z, y, x, [n, 3].
        voxel_counts: Voxels of each class in every case, [n, C].
        digests: SHA-256, in hex, over the voxels of every case, unicode [n].
        fingerprint: SHA-256, in hex, over everything.
        folder: Where it lies.
    """

    spec: VolumeSpec
    ids: Shaped[np.ndarray, " n"]
    shapes: Int64[np.ndarray, "n 3"]
    voxel_counts: Int64[np.ndarray, "n classes"]
    digests: Shaped[np.ndarray, " n"]
    fingerprint: str
    folder: Path


def volumes_folder(name: str, data_dir: Path) -> Path:
    """Return where a dataset of volumes lies, once it is prepared.

    Args:
        name: Name of a dataset of volumes.
        data_dir: The folder of prepared datasets.
    """
    return data_dir / name / VERSION


def case_path(folder: Path, case: str) -> Path:
    """Return where a prepared case lies.

    Args:
        folder: The folder of the prepared dataset.
        case: Name of the case.
    """
    return folder / f"{case}.volume"


def write_index(folder: Path, spec: VolumeSpec, cases: Sequence[CaseFile]) -> None:
    """Write the index, which makes the cases in a folder a dataset.

    Args:
        folder: The folder of the prepared dataset.
        spec: What is known of the dataset.
        cases: Its cases, in order.
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
    """Open a prepared dataset; its cases are not read.

    Args:
        name: Name of a dataset of volumes.
        folder: Where it lies.

    Raises:
        UserError: If the folder holds no complete dataset.
    """
    spec = volume_spec(name)
    names = ("ids", "shapes", "voxel_counts", "digests", "fingerprint")
    index = read_arrays(folder / INDEX_FILE, largest=_LARGEST_INDEX, names=names)
    if not _fits(spec, index):
        raise UserError(f"{folder / INDEX_FILE} does not have the fingerprint that stands in it.")
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
    """Open a prepared dataset; returns None unless it and the file of every case are there.

    Args:
        name: Name of a dataset of volumes.
        folder: Where it lies.
    """
    try:
        prepared = open_prepared_volumes(name, folder)
    except UserError:
        return None
    there = all(case_path(folder, case).exists() for case in prepared.ids.tolist())
    return prepared if there else None


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
    """Return SHA-256, in hex, over what the cases hold and what it means."""
    names = ("ids", "shapes", "voxel_counts", "digests")
    known = [spec.class_names, spec.modalities, spec.spacing, *(index[n].tolist() for n in names)]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()
