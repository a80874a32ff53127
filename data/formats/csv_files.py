"""CSV files of labels: rows with line numbers, and missing values."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from lmf_jax.errors import UserError

_MISSING = ("", "nan", "<na>")
"""Spellings of a missing value, in lower case."""


class Row(dict[str, str]):
    """A line of a CSV file, by column.

    Attributes:
        line: Line number in the file, from 1; the last line of a row that spans several.
    """

    line: int = 0


def read_csv(path: Path, columns: Sequence[str]) -> list[Row]:
    """Read a CSV file with a header that has at least these columns.

    Args:
        path: The file, in UTF-8.
        columns: Names of the required columns.

    Raises:
        UserError: If the file is missing, empty, not UTF-8 or lacks a column, or a line is empty or
            has another number of fields than the header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True, skipinitialspace=True)
            reader.fieldnames = _header(path, reader.fieldnames or (), columns)
            rows: list[Row] = []
            for values in reader:
                if None in values or None in values.values():
                    raise UserError(
                        f"Line {reader.line_num} of {path} does not have the "
                        f"{len(reader.fieldnames)} fields of the header."
                    )
                if not any(value.strip() for value in values.values()):
                    raise UserError(
                        f"Line {reader.line_num} of {path} has no value between its commas; "
                        "remove it."
                    )
                rows.append(Row(values))
                rows[-1].line = reader.line_num
    except FileNotFoundError:
        raise UserError(f"{path} is missing; check the folder of the download.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as CSV ({error}).") from error
    return rows


def _header(path: Path, fieldnames: Sequence[str], columns: Sequence[str]) -> list[str]:
    header = [name.strip() for name in fieldnames]
    missing = [column for column in columns if column not in header]
    if missing:
        raise UserError(
            f"{path} lacks the column {', '.join(missing)}; it has {', '.join(header) or 'none'}, "
            "read with commas between them."
        )
    if len(set(header)) < len(header):
        raise UserError(f"{path} has a column twice: {', '.join(header)}.")
    return header


def check_values(path: Path, rows: Sequence[Row], column: str, *, may_be_empty: bool) -> None:
    """Reject missing values, and numbers with several spellings.

    Args:
        path: The file, for the errors.
        rows: Rows of the file.
        column: Column of the values.
        may_be_empty: Whether an empty field has a meaning.

    Raises:
        UserError: If there are such values, with their lines.
    """
    missing = [row.line for row in rows if is_missing(row[column], may_be_empty=may_be_empty)]
    if missing:
        allowed = " or leave it empty" if may_be_empty else ", or remove the row"
        kinds = "nan" if may_be_empty else "empty or nan"
        raise UserError(
            f"{path} has no {column} ({kinds}) in {_lines(missing)}; give each a value{allowed}."
        )
    spellings: dict[str, Row] = {}
    for row in rows:
        value = row[column].strip()
        other = spellings.setdefault(without_decimals(value), row)
        if other[column].strip() != value:
            raise UserError(
                f"{path} spells one {column} as {other[column].strip()} (line {other.line}) and as "
                f"{value} (line {row.line}); spell it in one way."
            )


def is_missing(value: str, *, may_be_empty: bool = False) -> bool:
    """Return whether a text stands for a missing value.

    Args:
        value: The text.
        may_be_empty: Whether an empty text has a meaning.
    """
    text = value.strip().lower()
    return text in _MISSING and not (may_be_empty and not text)


def without_decimals(value: str) -> str:
    """Return a whole number without trailing decimal zeros, such as 0 for 0.0; other text as is."""
    number = re.fullmatch(r"([+-]?[0-9]+)\.0*", value)
    return number[1] if number else value


def _lines(numbers: Sequence[int]) -> str:
    """Return the first line numbers and the number of the others, as text."""
    first = ", ".join(map(str, numbers[:5]))
    more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    return f"line{'s' if len(numbers) > 1 else ''} {first}{more}"
