"""Files that a command names after the files or classes of the user.

All names are known, and checked, before the first file is written: no two are the same on any
disk, none is a file that the command reads, and a file that exists is replaced only on request.
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
    """Return a path in a folder for each file to write, all different and safe to write.

    A stem that is too long for a file name is shortened and gets a hash of the whole; of stems that
    some disk takes for the same, the second gets ``-2``, and so on. ``/`` becomes ``-``.

    Args:
        stems: Names of the files without their ending.
        suffix: The ending, such as ``.png``.
        folder: Where they are written; it is made.
        inputs: The files that the command reads.
        overwrite: Whether files that exist may be replaced.

    Raises:
        UserError: See :func:`check_outputs` and :func:`make_folder`.
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
        while (key := _as_any_disk_sees(name)) in taken:
            number += 1
            name = file_name(stem, f"-{number}{suffix}")
        taken.add(key)
        names.append(name)
    return names


def file_name(stem: str, suffix: str = "", longest: int = LONGEST_NAME) -> str:
    """Return stem and suffix, the stem cut and a hash of it added if they exceed ``longest`` bytes.

    Args:
        stem: Of any length.
        suffix: Kept as it is.
        longest: Bytes of the result at most.
    """
    encoded = os.fsencode(stem)
    if len(encoded) + len(os.fsencode(suffix)) <= longest:
        return stem + suffix
    suffix = f"-{hashlib.sha256(encoded).hexdigest()[:8]}{suffix}"
    # A character of several bytes may be cut through: what remains of it is left out.
    return encoded[: longest - len(os.fsencode(suffix))].decode("utf-8", "ignore") + suffix


def check_outputs(paths: Sequence[Path], *, inputs: Iterable[Path], overwrite: bool) -> None:
    """Refuse to write a file that the command reads, or one that exists.

    Args:
        paths: The files to write.
        inputs: The files that the command reads; a link to one is that file.
        overwrite: Whether files that exist may be replaced; files that are read never are.

    Raises:
        UserError: If one of the paths may not be written.
    """
    input_of = {_identity(path): path for path in inputs if path.exists()}
    existing = [path for path in paths if os.path.lexists(path)]
    for path in existing:
        if (read := input_of.get(_identity(path))) is not None:
            named = "" if read == path else f", which is {path}"
            raise UserError(f"The input {read}{named} would be replaced; give another --output.")
        if path.is_dir():
            raise UserError(f"{path} is a folder, where a file is written; give another --output.")
    if existing and not overwrite:
        more = f" and {len(existing) - 3} more" if len(existing) > 3 else ""
        named = f"{', '.join(map(str, existing[:3]))}{more}"
        if len(existing) == 1:
            raise UserError(f"{named} exists already; give another --output, or --overwrite.")
        raise UserError(
            f"{len(existing)} of {len(paths)} files to write exist ({named}); give another "
            "--output, or --overwrite."
        )


def make_folder(folder: Path) -> None:
    """Make a folder for output files, unless it is there.

    Raises:
        UserError: If the disk refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be made: {error.strerror}.") from error


def _as_any_disk_sees(name: str) -> str:
    """Return a name in the form that disks compare which ignore case or Unicode's forms."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file, equal for all links to it; None if it is missing."""
    with contextlib.suppress(OSError):
        status = path.stat()
        return status.st_dev, status.st_ino
    return None
