"""Encoding of metadata columns, such as age and sex, as numbers for a model.

An encoding is fitted to the training part and recorded with the run, so that every later image is
encoded alike. Each column becomes a block of features whose last one says that the value is
missing; the other features of a missing value are 0.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped

MOST_CATEGORIES = 50
"""Maximum number of values of a column of categories."""

MOST_DEVIATIONS = 5.0
"""Maximum distance from the mean, in standard deviations; a larger one is reduced to it."""

_LARGEST_NUMBER = float(np.finfo(np.float32).max)
_LONGEST_TEXT = 100
_MOST_COLUMNS = 50
"""Limits of the metadata of a prepared dataset, for records from outside."""

Values = Shaped[np.ndarray, " n"]
"""Value of each image, unicode; "" is unknown."""


@dataclass(frozen=True)
class Column(ABC):
    """Encoding of one column.

    Attributes:
        name: Name of the column.
    """

    name: str

    @property
    @abstractmethod
    def width(self) -> int:
        """Number of features, with that of a missing value."""

    @property
    @abstractmethod
    def record(self) -> dict[str, Any]:
        """The encoding, JSON-serializable."""

    @abstractmethod
    def known_features(self, text: str) -> list[float] | None:
        """Return the features of a value without the last one; None for a missing value."""

    def encode(self, values: Values) -> Float32[np.ndarray, "n width"]:
        """Return the features of each value, ``[n, width]``."""
        texts, rows = np.unique(values, return_inverse=True)
        features = np.zeros((len(texts), self.width), np.float32)
        for row, text in zip(features, texts.tolist(), strict=True):
            known = self.known_features(text)
            if known is None:
                row[-1] = 1
            else:
                row[:-1] = known
        return features[rows]


@dataclass(frozen=True)
class NumberColumn(Column):
    """Numbers: the standardized value, and whether it is missing.

    A text that is not a finite number is missing.

    Attributes:
        mean: Mean of the known values of the training part.
        std: Their standard deviation, positive.
    """

    mean: float
    std: float

    @property
    def width(self) -> int:
        """Number of features, with that of a missing value."""
        return 2

    @property
    def record(self) -> dict[str, Any]:
        """The encoding, JSON-serializable."""
        return {"name": self.name, "kind": "number", "mean": self.mean, "std": self.std}

    def known_features(self, text: str) -> list[float] | None:
        """Return the standardized number; None for a missing value."""
        number = finite_number(text)
        if number is None:
            return None
        # An outlier, such as an age of 999 years, would otherwise decide the prediction alone.
        deviations = (number - self.mean) / self.std
        return [min(max(deviations, -MOST_DEVIATIONS), MOST_DEVIATIONS)]


@dataclass(frozen=True)
class CategoryColumn(Column):
    """Categories: one feature for each value of the training part, and whether it is missing.

    A value that the training part does not have is missing.

    Attributes:
        values: The values, in order.
    """

    values: tuple[str, ...]

    @property
    def width(self) -> int:
        """Number of features, with that of a missing value."""
        return len(self.values) + 1

    @property
    def record(self) -> dict[str, Any]:
        """The encoding, JSON-serializable."""
        return {"name": self.name, "kind": "category", "values": list(self.values)}

    def known_features(self, text: str) -> list[float] | None:
        """Return 1 for the value and 0 for the others; None for a missing value."""
        if text not in self.values:
            return None
        return [float(text == value) for value in self.values]


@dataclass(frozen=True)
class MetadataEncoding:
    """Encoding of some columns as the features of an image.

    Attributes:
        columns: The columns, in the order of their features.
    """

    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of features of each column; the last of them is that of a missing value."""
        return tuple(column.width for column in self.columns)

    @property
    def record(self) -> list[dict[str, Any]]:
        """The encoding, JSON-serializable."""
        return [column.record for column in self.columns]

    def encode(self, metadata: Mapping[str, Values], n: int) -> Float32[np.ndarray, "n features"]:
        """Return the features of images, ``[n, sum of widths]``.

        Args:
            metadata: Value of each image by column; a column that is not there is missing for all.
            n: Number of images.
        """
        unknown = np.full(n, "")
        blocks = [column.encode(metadata.get(column.name, unknown)) for column in self.columns]
        return np.concatenate(blocks, axis=1)

    def without(
        self, features: Float32[np.ndarray, "n features"], names: Iterable[str]
    ) -> Float32[np.ndarray, "n features"]:
        """Return features in which some columns are missing for every image.

        Args:
            features: From :meth:`encode`.
            names: Names of the columns.
        """
        removed, start = set(names), 0
        features = features.copy()
        for column in self.columns:
            block = features[:, start : start + column.width]
            start += column.width
            if column.name in removed:
                block[:] = column.encode(np.full(len(block), ""))
        return features

    def num_missing(self, features: Float32[np.ndarray, "n features"]) -> dict[str, int]:
        """Return the number of images without a usable value, by column.

        Args:
            features: From :meth:`encode`.
        """
        last = np.cumsum(self.widths) - 1
        counts = features[:, last].sum(axis=0).astype(int).tolist()
        return dict(zip(self.names, counts, strict=True))


def fit_column(name: str, values: Values) -> Column:
    """Return the encoding of a column.

    It is a column of numbers if all known values are numbers and two of them differ, else of
    categories. Infinity and numbers beyond float32 are unknown.

    Args:
        name: Name of the column.
        values: Value of each training image.

    Raises:
        ValueError: If all values are equal, or there are too many for categories.
    """
    texts = np.unique(values).tolist()
    known = [text for text in texts if text and not is_infinite(text)]
    numbers = {text: finite_number(text) for text in known}
    found = np.array([numbers[text] for text in values.tolist() if numbers.get(text) is not None])
    if known and None not in numbers.values() and found.std() > 0:
        return NumberColumn(name, float(found.mean()), float(found.std()))
    if len(known) > MOST_CATEGORIES:
        text = next((text for text in known if numbers[text] is None), known[0])
        raise ValueError(
            f"has {len(known)} values that are not all numbers, such as {text!r}; expected numbers "
            f"alone, or at most {MOST_CATEGORIES} categories"
        )
    is_constant = len(known) == len(texts) == 1
    if is_constant or not known:
        only = f"the value {known[0]!r}" if known else "no known value"
        raise ValueError(f"has {only} for every training image, and so tells nothing")
    return CategoryColumn(name, tuple(known))


def finite_number(text: str) -> float | None:
    """Return the number of a text; None if it is not a number that float32 can hold."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) <= _LARGEST_NUMBER else None


def is_infinite(text: str) -> bool:
    """Return whether a text is a number that float32 cannot hold, such as inf or 1e99."""
    try:
        return not abs(float(text)) <= _LARGEST_NUMBER
    except ValueError:
        return False


def parse_encoding(record: Any) -> MetadataEncoding:
    """Return the encoding of :attr:`MetadataEncoding.record`.

    Raises:
        ValueError: If the record is not one of an encoding.
    """
    if not isinstance(record, list) or not 0 < len(record) <= _MOST_COLUMNS:
        raise ValueError(f"it is not a list of 1 to {_MOST_COLUMNS} columns")
    columns = tuple(map(_parse_column, record))
    if len({column.name for column in columns}) < len(columns):
        raise ValueError("it has a column twice")
    return MetadataEncoding(columns)


def _parse_column(record: Any) -> Column:
    if not isinstance(record, dict) or not _is_text(record.get("name")):
        raise ValueError("a column has no printable name")
    name, kind = record["name"], record.get("kind")
    if kind == "number":
        mean: Any = record.get("mean")
        std: Any = record.get("std")
        if not _is_number(mean) or not _is_number(std) or std <= 0:
            raise ValueError(f"the column {name} has no mean and positive standard deviation")
        return NumberColumn(name, float(mean), float(std))
    values: Any = record.get("values")
    if kind != "category" or not _are_categories(values):
        raise ValueError(f"the column {name} is neither of numbers nor of categories")
    return CategoryColumn(name, tuple(values))


def _are_categories(values: Any) -> bool:
    if not isinstance(values, list) or not 0 < len(values) <= MOST_CATEGORIES:
        return False
    return all(map(_is_text, values)) and len(set(values)) == len(values)


def _is_text(value: Any) -> bool:
    is_text = isinstance(value, str) and value.isprintable()
    return is_text and 0 < len(value) <= _LONGEST_TEXT


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and abs(value) <= _LARGEST_NUMBER
