"""Images of inference from a list: a CSV file as a manifest, without need of labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.datasets.manifest.labels import COLUMNS, image_name
from data.file_names import on_disk, to_nfc
from data.formats.csv_files import read_csv
from data.formats.metadata import Metadata, make_metadata, read_columns
from data.labels import stays_in_folder
from lmf_jax.errors import UserError


class ListedImages(NamedTuple):
    """Image files with their metadata.

    Attributes:
        files: The image files.
        metadata: Value of each by column, unicode [n]; "" is unknown.
    """

    files: list[Path]
    metadata: Metadata


def is_list(path: Path) -> bool:
    """Return whether a file is a list of images, by its suffix."""
    return path.suffix.lower() == ".csv"


def read_image_list(path: Path) -> ListedImages:
    """Read a list of images: the column ``path``, and the metadata.

    These are all other columns, as in a manifest, without ``label``, ``group`` and ``split``. A
    path is relative to the folder of the list, and may not leave it.

    Args:
        path: The CSV file.

    Raises:
        UserError: If the file cannot be read, lists no image or one twice, or a path leads out of
            its folder.
    """
    rows = read_csv(path, ("path",))
    if not rows:
        raise UserError(f"{path} lists no image; expected a line for each, with its path.")
    names = [image_name(path, row["path"].strip()) for row in rows]
    seen: set[str] = set()
    for name in names:
        if not stays_in_folder(name):
            raise UserError(
                f"{path} lists {name!r}; expected a path below the folder of the list, with / "
                "between folders and without .. in it."
            )
        if to_nfc(name) in seen:
            raise UserError(f"{path} lists {name} twice; list each image once.")
        seen.add(to_nfc(name))
    columns = [column for column in rows[0] if column not in COLUMNS]
    files = [on_disk(path.parent / name) for name in names]
    return ListedImages(files, make_metadata(read_columns(rows, columns)))


def joined(lists: Sequence[ListedImages]) -> ListedImages:
    """Return all images of several lists; a column that a list lacks is unknown there.

    Args:
        lists: The lists, at least one.
    """
    names = dict.fromkeys(name for one in lists for name in one.metadata)
    return ListedImages(
        [file for one in lists for file in one.files],
        {
            name: np.concatenate(
                [one.metadata.get(name, np.full(len(one.files), "")) for one in lists]
            )
            for name in names
        },
    )
