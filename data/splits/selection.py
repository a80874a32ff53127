"""Selection of images by their metadata: ``--where 'sex=male;dataset=vidir_modern,vidir_molemax'``.

Every condition names a column and the values that it may have; an image is selected if it meets all
conditions. Images with an unknown value are not selected.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Shaped

from data.formats.metadata import Metadata
from data.labels import Labels, Rows
from lmf_jax.errors import UserError

MOST_VALUES = 20
"""Maximum number of values that an error lists."""


@dataclass(frozen=True, eq=False)
class Selection:
    """The images of a dataset that meet some conditions.

    Attributes:
        rows: Their sorted row numbers.
        key: A short text for file names that is unique to the conditions.
    """

    rows: Int64[np.ndarray, " _"]
    key: str

    @classmethod
    def of(cls, labels: Labels, where: str, name: str) -> "Selection":
        """Return the selection of the conditions, see :func:`select_rows`."""
        return cls(select_rows(labels.metadata, where, name), where_key(where))

    def in_dataset(self, rows: Rows) -> Rows:
        """Return the row numbers in the dataset of row numbers in the selection."""
        return {part: self.rows[of_part] for part, of_part in rows.items()}


def where_key(where: str) -> str:
    """Return a short text for file names that is unique to the conditions."""
    return hashlib.sha256(where.encode()).hexdigest()[:12]


def select_rows(metadata: Metadata, where: str, name: str) -> Int64[np.ndarray, " _"]:
    """Return the sorted row numbers of the images that meet all conditions.

    Args:
        metadata: Metadata of the dataset.
        where: Conditions, ``COLUMN=VALUE[,VALUE]``, with ``;`` between them.
        name: Name of the dataset, for the errors.

    Raises:
        UserError: If the dataset has no metadata, a condition has no ``=``, a column or a value is
            unknown or a column occurs twice, or no image meets the conditions.
    """
    if not metadata:
        raise UserError(
            f"--where is {where!r}, but {name} has no metadata to select by; if it was prepared by "
            "an earlier version, run python -m data prepare again, else leave --where out."
        )
    meets = [np.isin(metadata[column], values) for column, values in _conditions(where, metadata)]
    selected = np.logical_and.reduce(meets)
    if not selected.any():
        raise UserError(f"No image of {name} meets --where {where!r}; leave a condition out.")
    return np.flatnonzero(selected)


def _conditions(where: str, metadata: Metadata) -> list[tuple[str, list[str]]]:
    """Return the column and the values of every condition, checked against the metadata."""
    conditions: dict[str, list[str]] = {}
    for part in filter(None, map(str.strip, where.split(";"))):
        column, equals, text = (word.strip() for word in part.partition("="))
        if not equals or not text:
            raise UserError(
                f"--where has the condition {part!r}; expected COLUMN=VALUE or COLUMN=VALUE,VALUE, "
                "with ; between conditions."
            )
        if column not in metadata:
            raise UserError(
                f"--where names the column {column!r}; expected one of {', '.join(metadata)}."
            )
        if column in conditions:
            raise UserError(f"--where names the column {column} twice; give all values at once.")
        conditions[column] = _values(column, text, metadata[column])
    if not conditions:
        raise UserError("--where is empty; expected COLUMN=VALUE or COLUMN=VALUE,VALUE.")
    return list(conditions.items())


def _values(column: str, text: str, known: Shaped[np.ndarray, " n"]) -> list[str]:
    """Return the values of a condition; one that contains a comma can be given alone."""
    counts = Counter(known.tolist())
    counts.pop("", None)
    values = [text] if text in counts else [value.strip() for value in text.split(",")]
    for value in values:
        if value not in counts:
            listed = [name for name, _ in counts.most_common(MOST_VALUES)]
            more = f" and {len(counts) - MOST_VALUES} more" if len(counts) > MOST_VALUES else ""
            raise UserError(
                f"--where gives {column} the value {value!r}; expected one or several of "
                f"{', '.join(listed) or 'none, since it is unknown for all images'}{more}."
            )
    return values
