"""Images that lie in a folder per class."""

from pathlib import Path

from lmf_jax.errors import UserError

SUFFIXES = frozenset((".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))
"""Endings of the files that are taken for images, in small letters."""


def images_in(folder: Path) -> list[str]:
    """Returns the names of the images right in a folder, sorted; hidden files are passed over.

    Args:
        folder: The folder.

    Raises:
        UserError: If the folder cannot be read or holds no image.
    """
    try:
        names = [entry.name for entry in folder.iterdir() if _is_image(entry)]
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}).") from error
    if not names:
        raise UserError(
            f"There is no image in {folder}; expected files that end in "
            f"{', '.join(sorted(SUFFIXES))}."
        )
    return sorted(names)


def folders_in(folder: Path) -> list[str]:
    """Returns the names of the folders right in a folder, sorted; hidden ones are passed over.

    Args:
        folder: The folder.

    Raises:
        UserError: If the folder cannot be read.
    """
    try:
        return sorted(
            entry.name
            for entry in folder.iterdir()
            if entry.is_dir() and not entry.name.startswith(".") and entry.name != "__MACOSX"
        )
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}).") from error


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
