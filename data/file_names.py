"""Names as people write them, found on the disk: in another Unicode form, through another link.

A Mac spells "é" as "e" and an accent (NFD) where others write one character (NFC). Both look alike
and are different names on most disks.
"""

import os
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath


def to_nfc(name: str) -> str:
    """Return a name in one Unicode form, to compare names that look alike.

    Args:
        name: In any form.
    """
    return unicodedata.normalize("NFC", name)


def on_disk(path: Path) -> Path:
    """Return a path as the disk spells it; the path itself if nothing there looks alike.

    Args:
        path: A file or folder, in any Unicode form.
    """
    if path.name.isascii() and path.parent.as_posix().isascii():
        return path
    if os.path.lexists(path) or path == path.parent:
        return path
    parent = on_disk(path.parent)
    alike = _names_in(parent).get(to_nfc(path.name), path.name)
    return parent / alike


def below(folder: Path, path: str) -> str:
    """Return a path relative to a folder if it leads there, by whatever link; else the path.

    Args:
        folder: The folder.
        path: A path with / between folders; a relative one stays as it is.
    """
    whole = PurePosixPath(path)
    if not whole.is_absolute():
        return str(whole)
    here = PurePosixPath(folder.absolute())
    for parent in whole.parents:
        if parent == here or _is_same_folder(str(parent), str(here)):
            return str(whole.relative_to(parent))
    return str(whole)


def _names_in(folder: Path) -> Mapping[str, str]:
    """Return the names in a folder by their one form; of several alike, none."""
    try:
        changed = folder.stat().st_mtime_ns
        return _listed(str(folder), changed)
    except OSError:
        return {}


@lru_cache(maxsize=64)
def _listed(folder: str, changed: int) -> Mapping[str, str]:
    del changed  # a folder that changed is listed again
    names: dict[str, list[str]] = {}
    for name in os.listdir(folder):
        names.setdefault(to_nfc(name), []).append(name)
    return {form: alike[0] for form, alike in names.items() if len(alike) == 1}


@lru_cache(maxsize=4096)
def _is_same_folder(path: str, folder: str) -> bool:
    try:
        return os.path.samefile(path, folder)
    except (OSError, ValueError):
        return False
