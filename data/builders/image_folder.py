"""Image files and sub-folders of a folder."""

from collections.abc import Sequence
from pathlib import Path

from data.labels import PART_NAMES, PARTS
from lmf_jax.errors import UserError

SUFFIXES = frozenset((".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))
"""Suffixes of image files, in lower case."""


def images_in(folder: Path) -> list[str]:
    """Return the names of the images directly in a folder, sorted, without hidden files.

    Args:
        folder: The folder.

    Raises:
        UserError: If the folder cannot be read or contains no image.
    """
    try:
        names = [entry.name for entry in folder.iterdir() if is_image(entry)]
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}).") from error
    if not names:
        raise UserError(
            f"There is no image in {folder}{_contents(folder)}; expected files that end in "
            f"{', '.join(sorted(SUFFIXES))}."
        )
    return sorted(names)


def folders_in(folder: Path) -> list[str]:
    """Return the names of the folders directly in a folder, sorted, without hidden ones.

    Args:
        folder: The folder.

    Raises:
        UserError: If the folder cannot be read.
    """
    try:
        return sorted(
            entry.name for entry in folder.iterdir() if entry.is_dir() and not is_hidden(entry.name)
        )
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}).") from error


def part_folders(names: Sequence[str]) -> list[str]:
    """Return the names of folders that are parts of a split, training first.

    Args:
        names: Names of folders.
    """
    parts = [name for name in names if name.lower() in PART_NAMES]
    return sorted(parts, key=lambda part: PARTS.index(PART_NAMES[part.lower()]))


def has_part_twice(parts: Sequence[str]) -> bool:
    """Return whether two folders are the same part, such as val and valid.

    Args:
        parts: Result of :func:`part_folders`.
    """
    return len({PART_NAMES[part.lower()] for part in parts}) < len(parts)


def is_image(path: Path) -> bool:
    """Return whether a file is an image, by its name."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden or was added by an operating system."""
    return name.startswith(".") or name in _SYSTEM_FILES


_SYSTEM_FILES = ("__MACOSX", "Thumbs.db", "desktop.ini")


def _contents(folder: Path) -> str:
    """Return what a folder without images contains, in parentheses."""
    names = sorted(entry.name for entry in folder.iterdir() if not is_hidden(entry.name))
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return f" (it contains {', '.join(names[:3])}{more})" if names else ""
