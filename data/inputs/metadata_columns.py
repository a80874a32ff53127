"""Metadata columns that a model gets beside the image: ``--metadata age,sex,site``."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int, Shaped

from data.formats.metadata import Metadata
from data.labels import MISSING_LABEL
from data.splits.dataset import Dataset
from data.splits.multilabel import MultilabelDataset
from lmf_jax.errors import UserError
from lmf_jax.metadata_encoding import (
    CategoryColumn,
    Column,
    MetadataEncoding,
    NumberColumn,
    finite_number,
    fit_column,
    parse_encoding,
)

AnyDataset = TypeVar("AnyDataset", Dataset, MultilabelDataset)

FEW_UNITS = 50
"""Images, lesions or patients below which numbers that all differ are no sign of identifiers."""


def encode_metadata(
    dataset: AnyDataset, names: str | None, recorded: Mapping[str, Any] | None = None
) -> AnyDataset:
    """Return the dataset with an encoding of some columns of its metadata.

    Args:
        dataset: The dataset with its split.
        names: Names of the columns, separated by commas; None for no encoding.
        recorded: The description of the data that a run recorded, whose encoding is used if it has
            these columns. None fits the encoding to the training part.

    Raises:
        UserError: If a column is unknown, given twice, constant, the label itself or an
            identifier, has too many values, or differs from that of the recorded run.
    """
    if names is None:
        return dataset
    columns = column_names(names)
    _check_known(dataset, columns)
    encoding = _recorded_encoding(dataset, columns, recorded or {})
    if encoding is None:
        encoding = MetadataEncoding(tuple(_fit(dataset, name) for name in columns))
    return replace(dataset, encoding=encoding, metadata_notes=tuple(_notes(dataset, encoding)))


def column_names(text: str) -> list[str]:
    """Parse ``--metadata``: names with commas between.

    Raises:
        UserError: If there is no name, or one is given twice.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError("--metadata is empty; expected names of columns, such as age,sex.")
    if len(set(names)) < len(names):
        raise UserError(f"--metadata {text} names a column twice; give each once.")
    return names


def unknown_line(encoding: MetadataEncoding, metadata: Metadata, n: int) -> str | None:
    """Return the line that says how many images lack a value, or have a new one.

    Args:
        encoding: The encoding of a run.
        metadata: Value of each image by column; columns may be missing.
        n: Number of images.

    Returns:
        The line; None if every image has a usable value of every column.
    """
    texts = []
    for name, count in encoding.num_missing(encoding.encode(metadata, n)).items():
        values = metadata.get(name, np.full(n, ""))
        new = count - int((values == "").sum())
        if count:
            named = f" ({new:,} with a value that no training image has)" if new else ""
            texts.append(f"{name} of {count:,}{named}")
    return f"metadata unknown, of {n:,} images: {', '.join(texts)}" if texts else None


def _check_known(dataset: AnyDataset, names: list[str]) -> None:
    if not dataset.metadata:
        raise UserError(
            f"--metadata names {', '.join(names)}, but {dataset.name} has no metadata; if it was "
            "prepared by an earlier version, run python -m data prepare again, else leave "
            "--metadata out."
        )
    unknown = [name for name in names if name not in dataset.metadata]
    if unknown:
        raise UserError(
            f"--metadata names the column {unknown[0]!r}; expected one or several of "
            f"{', '.join(dataset.metadata)}."
        )


def _recorded_encoding(
    dataset: AnyDataset, names: list[str], recorded: Mapping[str, Any]
) -> MetadataEncoding | None:
    """Return the encoding of a run with the same columns; None if it has others."""
    if "metadata" not in recorded:
        return None
    encoding = parse_encoding(recorded["metadata"])
    if list(encoding.names) != names:
        return None
    is_same_data = recorded["fingerprint"] == dataset.fingerprint
    found = dataset.metadata_fingerprint(encoding.names)
    if is_same_data and found != recorded["metadata_fingerprint"]:
        raise UserError(
            f"The values of {', '.join(names)} of {dataset.name} are not those that the run was "
            "trained with; restore them, or train a new run."
        )
    return encoding


def _fit(dataset: AnyDataset, name: str) -> Column:
    rows = dataset.rows["train"]
    values = dataset.metadata[name][rows]
    try:
        column = fit_column(name, values)
    except ValueError as error:
        raise UserError(
            f"The metadata column {name} of {dataset.name} {error}; leave it out of --metadata."
        ) from error
    labels = dataset.labels[rows].reshape(len(rows), -1)
    if any(_is_label(values, of_label) for of_label in labels.T):
        raise UserError(
            f"The metadata column {name} of {dataset.name} is the label in other words: each of "
            "its values goes with one class, and each class with one value; leave it out of "
            "--metadata."
        )
    known = values != ""
    num_values, num_units = len(np.unique(values[known])), _num_units(dataset, known)
    if isinstance(column, CategoryColumn) and num_values > max(2, num_units / 2):
        raise UserError(
            f"The metadata column {name} of {dataset.name} has {num_values} values for "
            f"{num_units} {_unit_name(dataset)} of training, and so identifies them; leave it out "
            "of --metadata."
        )
    return column


def _is_label(values: Shaped[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> bool:
    """Return whether values and labels divide the images in the same way."""
    known = (values != "") & (labels != MISSING_LABEL)
    pairs = set(zip(values[known].tolist(), labels[known].tolist(), strict=True))
    if len({label for _, label in pairs}) < 2:
        return False
    return len(pairs) == len({value for value, _ in pairs}) == len({label for _, label in pairs})


def _tells_label(values: Shaped[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> bool:
    """Return whether every value has one label, though most values are those of several images."""
    known = (values != "") & (labels != MISSING_LABEL)
    pairs = set(zip(values[known].tolist(), labels[known].tolist(), strict=True))
    num_values = len({value for value, _ in pairs})
    has_labels = len({label for _, label in pairs}) > 1
    return has_labels and len(pairs) == num_values and 2 * num_values < int(known.sum())


def _num_units(dataset: AnyDataset, known: Shaped[np.ndarray, " train"]) -> int:
    """Return the number of lesions, patients or images of training with a known value."""
    groups = dataset.groups_of("train")
    return int(known.sum()) if groups is None else len(np.unique(groups[known]))


def _unit_name(dataset: AnyDataset) -> str:
    return "images" if dataset.groups is None else "lesions or patients"


def _notes(dataset: AnyDataset, encoding: MetadataEncoding) -> list[str]:
    """Return a line on the columns, and warnings of columns that may tell too much."""
    rows = dataset.rows["train"]
    described: list[str] = []
    warnings: list[str] = []
    for column in encoding.columns:
        values = dataset.metadata[column.name][rows]
        missing = int(column.encode(values)[:, -1].sum())
        unknown = f", unknown for {missing:,} of {len(rows):,}" if missing else ""
        described.append(f"{column.name} ({_describe(column, values)}{unknown})")
        warnings += _warnings(dataset, column, values)
    return [f"metadata beside the image: {', '.join(described)}", *warnings]


def _describe(column: Column, values: Shaped[np.ndarray, " n"]) -> str:
    if isinstance(column, NumberColumn):
        numbers = [n for n in map(finite_number, values.tolist()) if n is not None]
        return f"{min(numbers):g} to {max(numbers):g}, mean {column.mean:.3g}"
    return f"{column.width - 1} categories"


def _warnings(dataset: AnyDataset, column: Column, values: Shaped[np.ndarray, " n"]) -> list[str]:
    name, known = column.name, values[values != ""]
    texts = np.unique(known).tolist()
    numbers = [finite_number(text) for text in texts]
    lines = []
    if isinstance(column, CategoryColumn) and 0 < numbers.count(None) < len(numbers):
        other = next(text for text, number in zip(texts, numbers, strict=True) if number is None)
        lines.append(f"metadata {name} is read as categories, because {other} is not a number")
    num_units = _num_units(dataset, values != "")
    are_whole = all(number is not None and number.is_integer() for number in numbers)
    if are_whole and num_units >= FEW_UNITS and len(texts) > 0.9 * num_units:
        lines.append(
            f"metadata {name} has {len(texts):,} whole numbers for {num_units:,} "
            f"{_unit_name(dataset)}; leave it out if they are identifiers"
        )
    labels = dataset.labels[dataset.rows["train"]].reshape(len(values), -1)
    if any(_tells_label(values, of_label) for of_label in labels.T):
        lines.append(
            f"metadata {name} has one class for each of its values; leave it out if it is known "
            "after the diagnosis only"
        )
    return lines
