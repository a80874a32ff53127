"""Names of output files derived from input files or class names.

All names are checked before the first file is written: they are distinct on any file system, none
is an input of the command, and existing files are replaced only on request.
"""

import contextlib
import hashlib
import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from lmf_jax.errors import UserError

LONGEST_NAME = 255
"""Bytes of a file name on the usual file systems."""


def plan_outputs(
    stems: Sequence[str],
    suffix: str,
    folder: Path,
    *,
    inputs: Iterable[Path],
    overwrite: bool = False,
) -> list[Path]:
    """Return a distinct path in a folder for each output file.

    A stem that is too long is cut and gets a hash of the whole. Stems that are equal on some file
    system get ``-2``, ``-3`` and so on. ``/`` becomes ``-``.

    Args:
        stems: Names of the files without their suffix.
        suffix: The suffix, such as ``.png``.
        folder: The folder, which is made.
        inputs: The files that the command reads.
        overwrite: Whether existing files may be replaced.

    Raises:
        UserError: If a file may not be written, or the folder cannot be made.
    """
    make_folder(folder)
    paths = [folder / name for name in unique_names(stems, suffix)]
    check_outputs(paths, inputs=inputs, overwrite=overwrite)
    return paths


def unique_names(stems: Sequence[str], suffix: str) -> list[str]:
    """Return a file name for each stem, see :func:`plan_outputs`."""
    names: list[str] = []
    taken: set[str] = set()
    for stem in stems:
        stem = stem.replace("/", "-")
        name, number = file_name(stem, suffix), 1
        while (key := _folded(name)) in taken:
            number += 1
            name = file_name(stem, f"-{number}{suffix}")
        taken.add(key)
        names.append(name)
    return names


def file_name(stem: str, suffix: str = "", longest: int = LONGEST_NAME) -> str:
    """Return stem and suffix; a stem that is too long is cut and gets a hash of the whole.

    Args:
        stem: The stem, of any length.
        suffix: The suffix, which is never cut.
        longest: Longest name in bytes.
    """
    encoded = os.fsencode(stem)
    if len(encoded) + len(os.fsencode(suffix)) <= longest:
        return stem + suffix
    suffix = f"-{hashlib.sha256(encoded).hexdigest()[:8]}{suffix}"
    # A character of several bytes may be cut: "ignore" drops its first bytes.
    return encoded[: longest - len(os.fsencode(suffix))].decode("utf-8", "ignore") + suffix


def check_outputs(paths: Sequence[Path], *, inputs: Iterable[Path], overwrite: bool) -> None:
    """Refuse to write to an input of the command, or to an existing file.

    Args:
        paths: The files to write.
        inputs: The files that the command reads; links count as their targets.
        overwrite: Whether existing files may be replaced; inputs never are.

    Raises:
        UserError: If one of the paths may not be written.
    """
    input_of = {_identity(path): path for path in inputs if path.exists()}
    existing = [path for path in paths if os.path.lexists(path)]
    for path in existing:
        if (read := input_of.get(_identity(path))) is not None:
            alias = "" if read == path else f", which is {path}"
            raise UserError(f"The input {read}{alias} would be replaced; give another --output.")
        if path.is_dir():
            raise UserError(f"{path} is a folder; expected a file: give another --output.")
    if existing and not overwrite:
        more = f" and {len(existing) - 3} more" if len(existing) > 3 else ""
        names = f"{', '.join(map(str, existing[:3]))}{more}"
        if len(existing) == 1:
            raise UserError(f"{names} exists already; give another --output, or --overwrite.")
        raise UserError(
            f"{len(existing)} of {len(paths)} files to write exist ({names}); give another "
            "--output, or --overwrite."
        )


def make_folder(folder: Path) -> None:
    """Make a folder for output files, if it does not exist.

    Raises:
        UserError: If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be made: {error.strerror}.") from error


def _folded(name: str) -> str:
    """Return a key equal for names that a file system may not distinguish by case or Unicode."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file, equal for all links to it; None if it is missing."""
    with contextlib.suppress(OSError):
        status = path.stat()
        return status.st_dev, status.st_ino
    return None
