"""Splits made by others: a CSV file with the columns ``image`` and ``part``, or a split file."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.file_names import to_nfc
from data.formats.csv_files import read_csv
from data.labels import PART_NAMES, PARTS, Labels, Rows
from lmf_jax.errors import UserError, printable
from lmf_jax.json_text import parse_json

LARGEST_FILE = 2**30
"""Maximum bytes of a split file: ten million images with names of 100 characters."""

_MOST_NAMES = 5


def read_split(path: Path, labels: Labels) -> Rows:
    """Read a split of a dataset, or of a part of its images.

    Args:
        path: A CSV file with a line per image and the columns ``image`` and ``part`` (train, val or
            test, see :data:`data.labels.PART_NAMES`), or a JSON file with the names of the images
            of each part, as in ``splits/`` of a prepared dataset.
        labels: Labels of the dataset.

    Returns:
        The sorted row numbers of "train", "validation" and "test".

    Raises:
        UserError: If the file cannot be read, a part is unknown, an image is unknown or occurs
            twice, or no image is in the training or test part.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UserError(f"{path} is larger than {LARGEST_FILE} bytes; expected a split.")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from None
    read = _read_json if path.suffix.lower() == ".json" else _read_csv
    rows = _rows(path, list(read(path)), labels)
    for part in ("train", "test"):
        if not len(rows[part]):
            raise UserError(f"{path} has no image in the {part} part, so nothing can leak.")
    return rows


def _read_csv(path: Path) -> Iterable[tuple[str, str]]:
    """Yield the name and the part of every image."""
    for row in read_csv(path, ("image", "part")):
        part = PART_NAMES.get(row["part"].strip().lower())
        if part is None:
            raise UserError(
                f"Line {row.line} of {path} puts {printable(row['image'])} into the part "
                f"{row['part']!r}; expected one of {', '.join(PART_NAMES)}."
            )
        yield row["image"], part


def _read_json(path: Path) -> Iterable[tuple[str, str]]:
    """Yield the name and the part of every image."""
    try:
        content: Any = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}).") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path} is no JSON object; expected a list of names for each part.")
    for key, names in content.items():
        part = PART_NAMES.get(key.lower())
        if part is None:
            continue  # such as the fingerprint
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{path} gives {key} as something else than a list of names.")
        for name in names:
            yield name, part


def _rows(path: Path, images: list[tuple[str, str]], labels: Labels) -> Rows:
    row_of = {to_nfc(name): row for row, name in enumerate(labels.ids.tolist())}
    unknown = [name for name, _ in images if to_nfc(name) not in row_of]
    if unknown:
        named = ", ".join(printable(name)[:80] for name in unknown[:_MOST_NAMES])
        more = ", ..." if len(unknown) > _MOST_NAMES else ""
        raise UserError(
            f"{path} names {len(unknown)} images that the dataset lacks ({named}{more}); expected "
            f"names such as {labels.ids[0]}."
        )
    part_of: dict[int, str] = {}
    for name, part in images:
        row = row_of[to_nfc(name)]
        if row in part_of:
            raise UserError(f"{path} names {printable(name)} twice; every image is in one part.")
        part_of[row] = part
    rows: dict[str, list[int]] = {part: [] for part in PARTS}
    for row, part in sorted(part_of.items()):
        rows[part].append(row)
    return {part: np.array(of_part, np.int64) for part, of_part in rows.items()}


def split_csv(labels: Labels, rows: Rows) -> str:
    """Return a split as CSV text that :func:`read_split` reads.

    Args:
        labels: Labels of the dataset.
        rows: Row numbers of every part.
    """
    part_of = {row: part for part in PARTS for row in rows[part].tolist()}
    text = io.StringIO()
    # Quotes keep the spaces at the ends of a name.
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(["image", "part"])
    writer.writerows([labels.ids[row], part] for row, part in sorted(part_of.items()))
    return text.getvalue()
