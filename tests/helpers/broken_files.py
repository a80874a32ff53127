"""Truncated, empty, missing and incomplete files of a run folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmf_jax.errors import UserError


def check_broken_files_are_named(read_run: Callable[[Path], Any], path: Path) -> None:
    """Truncate, empty and remove a file of a run; check that the reader names it each time."""
    run_dir, name, content = path.parent, path.name, path.read_bytes()
    for broken in (content[: len(content) - len(content) // 20 - 10], b""):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=f"{name} is (broken|damaged)"):
            read_run(run_dir)
    path.unlink()
    if name == "timing.jsonl":  # A run that was killed at its end may lack it.
        assert read_run(run_dir).timing == []
        return
    message = "There is no run in" if name == "config.json" else f"{name} is missing"
    with pytest.raises(UserError, match=message):
        read_run(run_dir)


def check_incomplete_epoch_is_named(
    read_run: Callable[[Path], Any], run_dir: Path, epoch: dict[str, Any], *, lacks: str
) -> None:
    """Append an epoch to a run of six; check that the reader names its line and what it lacks."""
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(epoch) + "\n")
    with pytest.raises(UserError, match=rf"metrics\.jsonl is broken: its line 7 lacks {lacks}"):
        read_run(run_dir)
