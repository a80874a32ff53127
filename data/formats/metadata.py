"""Metadata of images, such as sex, age or device: columns of text beside the labels.

Metadata select images (``--where``) and define subgroups of a test. They are no part of a dataset's
fingerprint. Columns that cannot serve either purpose, such as free text, are left out.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from data.formats.csv_files import Row, is_missing, without_decimals
from data.storage import replacing
from lmf_jax.json_text import parse_json

Metadata = Mapping[str, Shaped[np.ndarray, " n"]]
"""Value of every image, unicode [n], by column; "" is unknown."""

METADATA_FILE = "metadata.json"
"""File of the metadata of a prepared dataset: the values in the order of the images, by column."""

LONGEST_VALUE = 100
"""Maximum number of characters of a value, and of the name of a column."""

MOST_COLUMNS = 50
"""Maximum number of columns; the first ones are kept."""

LARGEST_FILE = 2**30
"""Maximum bytes of the file: a million images with ten columns of 100 characters."""

_UNKNOWN = "unknown"


def read_columns(rows: Sequence[Row], columns: Iterable[str]) -> dict[str, list[str]]:
    """Return the values of those columns that a CSV file has, in the order of its rows.

    Empty values, nan and "unknown" become "", and whole numbers lose trailing zeros, 80.0 as 80.

    Args:
        rows: Rows of the file.
        columns: Names of the columns, which may be missing.
    """
    found = [column for column in columns if rows and column in rows[0]]
    return {column: [_plain(row[column]) for row in rows] for column in found}


@lru_cache(maxsize=4096)  # most columns have few values
def _plain(value: str) -> str:
    text = value.strip()
    is_unknown = is_missing(text) or text.lower() == _UNKNOWN
    return "" if is_unknown else without_decimals(text)


def make_metadata(columns: Mapping[str, Sequence[str]]) -> Metadata:
    """Return metadata as arrays, without the columns that cannot be kept.

    Args:
        columns: Value of every image by column. A column is left out if its name or a value has
            more than :data:`LONGEST_VALUE` characters or is not printable, if its name is empty, or
            if there are :data:`MOST_COLUMNS` before it.
    """
    kept = [
        name for name, values in columns.items() if name and _fits(name) and all(map(_fits, values))
    ]
    return {name: np.array(columns[name], str) for name in kept[:MOST_COLUMNS]}


def _fits(text: str) -> bool:
    return len(text) <= LONGEST_VALUE and text.isprintable()


def write_metadata(folder: Path, metadata: Metadata) -> None:
    """Write metadata into the folder of a prepared dataset.

    Args:
        folder: The folder.
        metadata: Values in the order of the images.
    """
    content = {column: values.tolist() for column, values in metadata.items()}
    with replacing(folder / METADATA_FILE) as file:
        file.write(json.dumps(content).encode() + b"\n")


def read_metadata(folder: Path, num_examples: int) -> Metadata:
    """Return the metadata of a prepared dataset; empty if it was prepared without them.

    Args:
        folder: Folder of the dataset.
        num_examples: Number of its images.

    Raises:
        ValueError: If the file holds anything else than columns of one text per image.
        OSError: If it cannot be read.
    """
    path = folder / METADATA_FILE
    if not path.exists():
        return {}
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(f"{METADATA_FILE} is larger than {LARGEST_FILE} bytes")
    content: Any = parse_json(path.read_bytes())
    if not isinstance(content, dict) or not all(
        isinstance(values, list)
        and len(values) == num_examples
        and all(isinstance(value, str) for value in values)
        for values in content.values()
    ):
        raise ValueError(f"{METADATA_FILE} holds no columns of one text per image")
    metadata = make_metadata(content)
    if len(metadata) < len(content):
        raise ValueError(f"{METADATA_FILE} holds a column that is too long or not printable")
    return metadata
