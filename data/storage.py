"""Atomic writing of files that one of several processes builds once."""

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
    """Hold the lock for building ``path``; other processes wait until it is released.

    The lock ends with its process, so a killed process blocks no other. On a disk without locks
    no process waits; the result then has to be moved into place in one step, and the last one
    wins. The next holder of the lock removes what a killed process left behind.

    Args:
        path: File or folder to build; its parent folder is created.

    Yields:
        Nothing. Check again whether ``path`` exists: another process may have built it.

    Raises:
        UserError: If the disk cannot be written or read.
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
    """Wait for the lock; return whether the disk supports locks."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of :func:`replacing` and TensorFlow Datasets for ``path``."""
    for leftover in path.parent.glob(f"{glob.escape(_prefix(path))}{'[0-9a-f]' * 32}"):
        leftover.unlink(missing_ok=True)
    for folder in path.parent.glob(f"incomplete.*_{glob.escape(path.name)}"):
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces ``path`` when the block ends without an error.

    Args:
        path: File to write, in an existing folder.

    Yields:
        The temporary file in the same folder, open for writing.
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
    """Return the prefix of temporary files of ``path``, short enough for any disk."""
    return f".{file_name(path.name, longest=200)}."
