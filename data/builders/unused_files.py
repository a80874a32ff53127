"""Remarks on files in the user's folders that are not used, one line per type."""

import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from data.builders.image_folder import is_hidden, is_image
from data.names import parse_name
from data.registry import find_dataset
from data.volume_spec import CaseFiles
from lmf_jax.errors import printable

MOST_LINES = 5
"""Maximum number of lines; further suffixes share the last one."""


def unused_file_lines(name: str) -> list[str]:
    """Return a line for each type of file in the user's folders that is not used.

    There are none for a manifest, which lists the files to use.

    Args:
        name: Name of the dataset, as given on the command line.
    """
    spec = find_dataset(name)
    if spec is None or not spec.paths:
        return []
    find_lines = getattr(spec.labels_module(), "unused_file_lines", None)
    lines: list[str] = [] if find_lines is None else find_lines(parse_name(name).raw)
    return lines


def files_below(folder: Path, without: Collection[Path] = ()) -> Iterator[Path]:
    """Yield every file in a folder and its sub-folders, sorted by name, without hidden ones.

    Args:
        folder: The folder.
        without: Sub-folders to skip as well.
    """
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = [
            name
            for name in sorted(folders)
            if not is_hidden(name) and not any(is_same(here / name, other) for other in without)
        ]
        yield from (here / name for name in sorted(files) if not is_hidden(name))


def unused_entries(folder: Path, used: Collection[Path]) -> tuple[list[Path], list[Path]]:
    """Return all other files and folders directly in a folder, sorted by name.

    Args:
        folder: The folder.
        used: Files and folders that are read or written.
    """
    entries = [entry for entry in sorted(folder.iterdir()) if not is_hidden(entry.name)]
    beside = [entry for entry in entries if not any(is_same(entry, other) for other in used)]
    return [e for e in beside if not e.is_dir()], [e for e in beside if e.is_dir()]


def unused_line(folder: Path, paths: Sequence[Path], noun: str, advice: str) -> str:
    """Return a line with the number of unused files, the first of them, and advice.

    Args:
        folder: Folder that contains them, directly or in sub-folders.
        paths: The files or folders, at least one.
        noun: Noun for one of them.
        advice: What to do to use them.
    """
    verb = "is" if len(paths) == 1 else "are"
    count = counted(len(paths), noun)
    return f"{count} in {folder} {verb} not used: {named(folder, paths)}; {advice}"


def non_image_lines(
    folder: Path,
    files: Sequence[Path],
    advice: str = "images have to be JPEG, PNG, TIFF, WebP, BMP, GIF or DICOM",
) -> list[str]:
    """Return a line for each suffix of files that are not images.

    Args:
        folder: Folder that contains them, directly or in sub-folders.
        files: The files; images among them are skipped.
        advice: What to do to use them.
    """
    of_kind: dict[str, list[Path]] = {}
    for file in files:
        if not is_image(file):
            of_kind.setdefault(_kind(file), []).append(file)
    by_count = sorted(of_kind.items(), key=lambda item: (item[0] == _OTHER, -len(item[1]), item[0]))
    if len(by_count) > MOST_LINES:
        others = [file for _, paths in by_count[MOST_LINES - 1 :] for file in paths]
        by_count = [*by_count[: MOST_LINES - 1], (_OTHER, others)]
    return [unused_line(folder, paths, kind, advice) for kind, paths in by_count]


def counted(number: int, noun: str) -> str:
    """Return a number with its noun in the singular or plural."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def named(folder: Path, paths: Sequence[Path]) -> str:
    """Return the first three paths, relative to a folder, and the number of the others."""
    first = ", ".join(printable(path.relative_to(folder).as_posix()) for path in paths[:3])
    return first + (f" and {len(paths) - 3:,} more" if len(paths) > 3 else "")


_OTHER = "other file"


def _kind(file: Path) -> str:
    """Return a noun for files of this suffix; numbers, as in DICOM UIDs, are not suffixes."""
    match = re.search(r".(\.nii)?(\.[a-z][a-z0-9]{0,9})$", file.name.lower())
    return f"{match[0][1:]} file" if match else _OTHER


def is_same(path: Path, other: Path) -> bool:
    """Return whether two paths lead to the same existing file or folder."""
    try:
        return path.samefile(other)
    except OSError:
        return False


def non_case_lines(folder: Path, cases: Sequence[CaseFiles], others: Sequence[Path]) -> list[str]:
    """Return a line for each type of file, and for folders, that are not cases.

    Args:
        folder: Folder that contains the folders of the cases.
        cases: Cases that are used.
        others: Files and folders to leave out of the lines.
    """
    used = {case.folder for case in cases}
    files, folders = unused_entries(folder, others)
    folders = [below for below in folders if below not in used]
    lines = non_image_lines(folder, files, "a case is a folder with its files")
    if folders:
        names = ", ".join(filter(None, (*cases[0].images, cases[0].labels)))
        lines.append(unused_line(folder, folders, "folder", f"a case has the files {names}"))
    return lines
