"""Split files: a split is computed once and is the same for every run."""

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from data.labels import PARTS, Rows
from data.storage import build_lock, replacing
from lmf_jax.errors import UserError
from lmf_jax.json_text import parse_json


@runtime_checkable
class Splittable(Protocol):
    """Prepared dataset of images or volumes."""

    @property
    def ids(self) -> Any:
        """Name of every example, unicode [n]."""

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, over all examples."""

    @property
    def folder(self) -> Path:
        """Folder of the dataset."""


def stored_split(
    name: str, prepared: Splittable, make: Callable[[], Rows], version: int = 1
) -> tuple[Rows, str]:
    """Return a split and its fingerprint; compute and store the split the first time.

    ``splits/<name>.json`` in the folder of the prepared dataset has the names of the images in
    every part, the fingerprint that runs record, and the version of the method.

    Args:
        name: Name of the split, with all its parameters.
        prepared: The dataset.
        make: Function that computes the split.
        version: Version of the split method.

    Returns:
        The rows of every part, and SHA-256, in hex, over the dataset and these rows.

    Raises:
        UserError: If the split is not possible, or its file was changed.
    """
    path = prepared.folder / "splits" / f"{name}.json"
    if path.exists():
        return _read(path, prepared)
    rows = make()
    # A shared folder may be read-only; every run then computes the same split.
    with contextlib.suppress(UserError), build_lock(path):
        if not path.exists():
            _write(path, prepared, rows, version)
    return rows, _fingerprint(prepared, rows)


def _write(path: Path, prepared: Splittable, rows: Rows, version: int) -> None:
    parts = {part: prepared.ids[rows[part]].tolist() for part in PARTS}
    content = {"fingerprint": _fingerprint(prepared, rows), "version": version, **parts}
    with replacing(path) as file:
        file.write(json.dumps(content, indent=1).encode())


def _read(path: Path, prepared: Splittable) -> tuple[Rows, str]:
    row_of = {name: row for row, name in enumerate(prepared.ids.tolist())}
    try:
        content = parse_json(path.read_bytes())
        rows = {
            part: np.array([row_of[name] for name in content[part]], np.int64) for part in PARTS
        }
        fingerprint = content["fingerprint"]
    except (OSError, ValueError, TypeError, KeyError):
        rows, fingerprint = {part: np.zeros(0, np.int64) for part in PARTS}, None
    if fingerprint != _fingerprint(prepared, rows):
        raise UserError(
            f"The split in {path} does not have the fingerprint recorded in it; remove the file to "
            "compute it again. For a different split, use manifest:FILE.csv."
        )
    return rows, fingerprint


def _fingerprint(prepared: Splittable, rows: Rows) -> str:
    digest = hashlib.sha256(prepared.fingerprint.encode())
    for part in PARTS:
        digest.update(f"{part} {len(rows[part])} ".encode())
        digest.update(rows[part].astype("<i8").tobytes())
    return digest.hexdigest()
