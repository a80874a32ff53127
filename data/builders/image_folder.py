"""Image files and sub-folders of a folder."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePath

from data.formats.dicom.file import INDEX_NAME, is_dicom
from data.labels import PART_NAMES, PARTS
from data.volume_spec import ENDINGS, is_volume
from lmf_jax.errors import UserError

SUFFIXES = frozenset(
    (".bmp", ".dcm", ".dicom", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
)
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


def volumes_in(folder: Path) -> list[str]:
    """Return the names of the NIfTI files directly in a folder, sorted, without hidden ones.

    Args:
        folder: The folder.

    Raises:
        UserError: If the folder cannot be read or contains no NIfTI file.
    """
    try:
        names = [entry.name for entry in folder.iterdir() if is_volume(entry.name)]
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}).") from error
    if not (names := sorted(name for name in names if not is_hidden(name))):
        raise UserError(
            f"There is no volume in {folder}{_contents(folder)}; expected files that end in "
            f"{' or '.join(ENDINGS)}."
        )
    return names


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
    """Return whether a file is an image: by its suffix, or without one, if it begins as DICOM."""
    if path.name.startswith("."):
        return False
    if suffix_of(path.name):
        return path.suffix.lower() in SUFFIXES
    if path.name.lower() == INDEX_NAME or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(132))
    except OSError:
        return False


def suffix_of(name: str) -> str:
    """Return the suffix of a file name; "" for a number, as at the end of a DICOM UID."""
    match = re.search(r"(?<=.)(\.nii)?\.[a-zA-Z][a-zA-Z0-9]{0,9}$", name)
    return match[0] if match else ""


def stem_of(path: PurePath) -> str:
    """Return the name of a file without its suffix; a UID without a suffix is whole."""
    return path.name.removesuffix(suffix_of(path.name))


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden or was added by an operating system."""
    return name.startswith(".") or name in _SYSTEM_FILES


_SYSTEM_FILES = ("__MACOSX", "Thumbs.db", "desktop.ini")


def _contents(folder: Path) -> str:
    """Return what a folder without images contains, in parentheses."""
    names = sorted(entry.name for entry in folder.iterdir() if not is_hidden(entry.name))
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return f" (it contains {', '.join(names[:3])}{more})" if names else ""
