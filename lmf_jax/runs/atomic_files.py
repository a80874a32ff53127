"""Atomic writes of run files: a reader sees the old file or the new one, never a part."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from lmf_jax.errors import UserError
from lmf_jax.json_text import parse_json


def write_atomically(path: Path, text: str) -> None:
    """Write a file through a temporary one, so that no reader sees a part of it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def write_results(
    run_dir: Path,
    name: str,
    arrays: Mapping[str, np.ndarray],
    groups: Shaped[np.ndarray, " n"] | None,
    results: Mapping[str, Any],
) -> None:
    """Write arrays and, if not None, their groups to an npz file, and then ``test.json``."""
    write_arrays(run_dir / f"{name}.npz", arrays, groups)
    write_atomically(run_dir / "test.json", json.dumps(results, indent=2) + "\n")


def write_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], groups: Shaped[np.ndarray, " n"] | None
) -> None:
    """Write arrays and, if not None, their groups to an npz file."""
    saved: dict[str, Any] = {**arrays} if groups is None else {**arrays, "groups": groups}
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, **saved)
    os.replace(temporary, path)


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace a file by these rows, one JSON object per line."""
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file, an empty list if it is missing.

    Raises:
        UserError: If a line is not a JSON object.
    """
    if not path.exists():
        return []
    try:
        rows = [parse_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise UserError(f"{path} is broken ({error}); remove it and try again.") from error
    if not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path} is broken (a line is not an object); remove it and try again.")
    return rows
