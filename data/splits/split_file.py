"""A split as a file: made once, the same for every run, and readable by anybody."""

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
    """A prepared dataset of images or volumes."""

    @property
    def ids(self) -> Any:
        """Name of every example, unicode [n]."""

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, over all examples."""

    @property
    def folder(self) -> Path:
        """Where the dataset lies."""


def stored_split(
    name: str, prepared: Splittable, make: Callable[[], Rows], version: int = 1
) -> tuple[Rows, str]:
    """Return a split and its fingerprint; makes the split and writes it down the first time.

    ``splits/<name>.json`` in the folder of the prepared dataset holds the names of the images in
    every part, the fingerprint that the runs record, and the version of the method.

    Args:
        name: Of the split, with all that decides it.
        prepared: The dataset.
        make: Makes the split.
        version: Of the method that makes it.

    Returns:
        The rows of every part, and SHA-256, in hex, over the dataset and these rows.

    Raises:
        UserError: If the split cannot be made, or its file was changed.
    """
    path = prepared.folder / "splits" / f"{name}.json"
    if path.exists():
        return _read(path, prepared)
    rows = make()
    # A shared folder may be for reading only; every run makes the same split then.
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
            f"The split in {path} does not have the fingerprint that stands in it; remove the file "
            "and it is made anew. For a split of your own, use manifest:FILE.csv."
        )
    return rows, fingerprint


def _fingerprint(prepared: Splittable, rows: Rows) -> str:
    digest = hashlib.sha256(prepared.fingerprint.encode())
    for part in PARTS:
        digest.update(f"{part} {len(rows[part])} ".encode())
        digest.update(rows[part].astype("<i8").tobytes())
    return digest.hexdigest()
