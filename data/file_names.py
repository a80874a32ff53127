"""File names in different Unicode forms, and paths through different links.

macOS stores "é" as "e" and an accent (NFD) where other systems write one character (NFC). Both look
alike and are different names on most disks.
"""

import os
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath


def to_nfc(name: str) -> str:
    """Return a name in NFC, to compare names that look alike.

    Args:
        name: Name in any Unicode form.
    """
    return unicodedata.normalize("NFC", name)


def on_disk(path: Path) -> Path:
    """Return a path as the disk spells it, or the path itself if nothing there looks alike.

    Args:
        path: File or folder, in any Unicode form.
    """
    if path.name.isascii() and path.parent.as_posix().isascii():
        return path
    if os.path.lexists(path) or path == path.parent:
        return path
    parent = on_disk(path.parent)
    alike = _names_in(parent).get(to_nfc(path.name), path.name)
    return parent / alike


def below(folder: Path, path: str) -> str:
    """Return a path relative to a folder if it leads there, through any link, else the path.

    Args:
        folder: The folder.
        path: Path with / between folders; a relative one stays as it is.
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
    """Return the names in a folder by their NFC form, without those that look alike."""
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
