"""Files that are built once, by one of many processes, and are either whole or not there."""

import contextlib
import fcntl
import glob
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from lmf_jax.errors import UserError
from lmf_jax.output_files import file_name


@contextlib.contextmanager
def build_lock(path: Path) -> Iterator[None]:
    """Hold the right to build ``path``; a second process waits here until the first is done.

    The lock goes with its holder, so a killed process blocks nobody. Where a disk knows no locks,
    nobody waits; then what is built has to take its place in one step, and the last one wins.

    What a killed process left half-built is removed by the next that holds the lock.

    Args:
        path: The file or folder to be built; its parent folder is made.

    Yields:
        Nothing. Look again whether ``path`` is there: another process may have built it.

    Raises:
        UserError: If the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path.with_name(f".{path.name}.lock"), "a") as lock:
            if _locked(lock):
                _remove_leftovers(path)
            yield
    except OSError as error:
        culprit = error.filename
        if isinstance(culprit, str) and not Path(culprit).is_relative_to(path.parent):
            raise UserError(f"{culprit} cannot be read ({error.strerror}).") from error
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}); make room there or give "
            "another folder with --data-dir."
        ) from error


def _locked(lock: TextIO) -> bool:
    """Wait for the lock; returns whether the disk knows locks at all."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def _remove_leftovers(path: Path) -> None:
    """Remove what :func:`replacing` and TensorFlow Datasets name while they build ``path``."""
    for leftover in path.parent.glob(f"{glob.escape(_prefix(path))}{'[0-9a-f]' * 32}"):
        leftover.unlink(missing_ok=True)
    for folder in path.parent.glob(f"incomplete.*_{glob.escape(path.name)}"):
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that takes the place of ``path`` when the block ends without error.

    Args:
        path: The file to write, in an existing folder.

    Yields:
        The temporary file, beside ``path`` and open for writing.
    """
    temporary = path.with_name(f"{_prefix(path)}{uuid.uuid4().hex}")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    """Return how the temporary files of ``path`` begin; they fit where its own name fits."""
    return f".{file_name(path.name, longest=200)}."
