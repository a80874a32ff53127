"""Write, read and format the subgroups of a test: ``subgroups.json`` in the folder of a run."""

import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmf_jax.errors import UserError, printable
from lmf_jax.evaluation.comparison import format_p
from lmf_jax.evaluation.formatting import (
    format_count,
    format_difference,
    format_fraction,
    format_interval,
    format_range,
)
from lmf_jax.evaluation.subgroups import MOST_VALUES, subgroup_notes
from lmf_jax.evaluation.summary import unit_name
from lmf_jax.runs.atomic_files import write_atomically
from lmf_jax.runs.files import check, is_fraction, is_number, is_whole, parse, read_text, require

SUBGROUPS_FILE = "subgroups.json"

_KEYS = ("level", "permutations", "examples", "drawn", "compared", "columns", "left_out")
_SUBGROUP_KEYS = ("value", "images", "units", "intervals", "difference")
_P_VALUES = ("p_value", "corrected_p_value")
_MOST_COLUMNS = 1000
WIDTH = 80
"""Columns of the terminal."""


def write_subgroups(run_dir: Path, content: Mapping[str, Any] | None) -> None:
    """Write ``subgroups.json``, or remove that of an earlier test if there is no metadata.

    Args:
        run_dir: The folder of the run.
        content: From :func:`lmf_jax.evaluation.subgroups.summarize_subgroups`; None without
            metadata.
    """
    path = run_dir / SUBGROUPS_FILE
    if content is None:
        path.unlink(missing_ok=True)
    else:
        write_atomically(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_subgroups(
    run_dir: Path,
    metrics: Sequence[str],
    num_examples: int,
    is_valid: Callable[[Any], bool] = is_fraction,
) -> dict[str, Any] | None:
    """Read ``subgroups.json``; None if the run has none.

    Args:
        run_dir: The folder of the run.
        metrics: Names of the metrics of every subgroup.
        num_examples: Number of images or cases of the test.
        is_valid: Returns whether a value of a metric is possible.

    Raises:
        UserError: If the file is broken, or is of another test.
    """
    path = run_dir / SUBGROUPS_FILE
    if not path.exists():
        return None
    content: dict[str, Any] = parse(path, read_text(path))
    require(path, content, _KEYS)
    settings_fit = (
        is_number(content["level"], 0, 1)
        and is_whole(content["permutations"])
        and _is_text(content["examples"])
        and _is_text(content["compared"])
        and content["drawn"] in (content["examples"], "groups")
    )
    check(path, settings_fit, "its settings are not a level, a number and names")
    columns, left_out = content["columns"], content["left_out"]
    for names in (columns, left_out):
        are_names = isinstance(names, Mapping) and len(names) <= _MOST_COLUMNS
        check(path, are_names and all(map(_is_text, names)), "its columns are not named")
    check(path, all(map(is_whole, left_out.values())), "its left_out are not whole numbers")
    for name, column in columns.items():
        _check_column(path, name, column, num_examples)
        for subgroup in column["subgroups"]:
            _check_subgroup(path, f"a subgroup of {name}", subgroup, metrics, is_valid)
    return content


def _check_column(path: Path, name: str, column: Any, num_examples: int) -> None:
    require(path, column, ("bands", "unknown", "subgroups"), f"its column {name}")
    subgroups = column["subgroups"]
    are_some = isinstance(subgroups, list) and 2 <= len(subgroups) <= MOST_VALUES
    check(path, are_some, f"its column {name} does not have 2 to {MOST_VALUES} subgroups")
    for subgroup in subgroups:
        require(path, subgroup, (*_SUBGROUP_KEYS, *_P_VALUES), f"a subgroup of {name}")
        is_known = _is_text(subgroup["value"]) and is_whole(subgroup["images"], 1)
        check(path, is_known, f"a subgroup of {name} has no value or no image")
    values = [subgroup["value"] for subgroup in subgroups]
    check(path, len(set(values)) == len(values), f"its column {name} has a value twice")
    counts = [subgroup["images"] for subgroup in subgroups]
    fits = is_whole(column["unknown"]) and sum(counts) + column["unknown"] == num_examples
    check(path, fits, f"its column {name} does not have the {num_examples} images of the test")
    check(path, isinstance(column["bands"], bool), f"the bands of {name} are not true or false")


def _check_subgroup(
    path: Path,
    owner: str,
    subgroup: Mapping[str, Any],
    metrics: Sequence[str],
    is_valid: Callable[[Any], bool],
) -> None:
    units = subgroup["units"]
    has_units = is_whole(units, 1) and units <= subgroup["images"]
    check(path, has_units, f"{owner} has an impossible number of units")
    require(path, subgroup, metrics, owner)
    require(path, subgroup["intervals"], metrics, f"the intervals of {owner}")
    for name in metrics:
        value, ends = subgroup[name], subgroup["intervals"][name]
        check(path, value is None or is_valid(value), f"{owner} has an impossible {name}")
        is_pair = isinstance(ends, list) and len(ends) == 2 and all(map(is_valid, ends))
        check(path, ends is None or is_pair, f"{owner} has an impossible interval of {name}")
    difference, *p_values = (subgroup[key] for key in ("difference", *_P_VALUES))
    if difference is None:
        check(path, p_values == [None, None], f"{owner} has a p-value without a difference")
    else:
        is_test = is_number(difference) and all(is_number(p, 0, 1) for p in p_values)
        check(path, is_test, f"{owner} has an impossible difference or p-value")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and value != ""


def subgroup_tables(
    content: Mapping[str, Any], titles: Mapping[str, str], *, by_class: bool = True
) -> dict[str, Any]:
    """Return the tables of a page: all texts of every column and subgroup, and the notes.

    Args:
        content: The contents of ``subgroups.json``.
        titles: Titles of the metrics by name.
        by_class: Whether an image has one class, and subgroups are compared class by class.
    """
    columns = [
        {
            "name": name,
            "unknown": column["unknown"],
            "rows": [_texts(subgroup, titles, format_range) for subgroup in column["subgroups"]],
        }
        for name, column in content["columns"].items()
    ]
    return {
        "columns": columns,
        "titles": list(titles.values()),
        "examples": content["examples"],
        "units": None if content["drawn"] == content["examples"] else unit_name(content["drawn"]),
        "level": content["level"],
        "compared": content["compared"],
        "by_class": by_class,
        "notes": subgroup_notes(content),
    }


def _texts(
    subgroup: Mapping[str, Any],
    titles: Mapping[str, str],
    format_ends: Callable[[Sequence[float]], str],
) -> dict[str, Any]:
    p_value = subgroup["corrected_p_value"]
    intervals = subgroup["intervals"]
    return {
        "value": subgroup["value"],
        "images": format_count(subgroup["images"]),
        "units": format_count(subgroup["units"]),
        "metrics": [
            (
                format_fraction(subgroup[name]),
                format_ends(intervals[name]) if intervals[name] else "",
            )
            for name in titles
        ],
        "difference": "n/a" if p_value is None else format_difference(subgroup["difference"]),
        "p_value": "n/a" if p_value is None else format_p(p_value),
    }


@dataclass(frozen=True)
class SubgroupMetrics:
    """The metrics of the subgroups of a task, which are read and printed alike.

    Attributes:
        titles: Titles of the metrics by name.
        interval_of: The metric whose interval is printed.
        by_class: Whether an example has one class, and subgroups are compared class by class.
    """

    titles: Mapping[str, str]
    interval_of: str
    by_class: bool = True

    def read(self, folder: Path, num_examples: int) -> dict[str, Any] | None:
        """Read ``subgroups.json`` of a test; None if it has none.

        Args:
            folder: The folder of a run, or of a test on another dataset.
            num_examples: Number of its test images or cases.

        Raises:
            UserError: If the file is broken, or is of another test.
        """
        return read_subgroups(folder, tuple(self.titles), num_examples)

    def format(self, folder: Path, num_examples: int, columns: Sequence[str]) -> str:
        """Format the subgroups of a test as plain text.

        Args:
            folder: The folder of a run, or of a test on another dataset.
            num_examples: Number of its test images or cases.
            columns: Names of the columns of metadata.

        Returns:
            A table for each column, and notes, at most 80 columns wide; no newline at the end.

        Raises:
            UserError: If the test has no subgroups or not these, or the file is broken.
        """
        content = self.read(folder, num_examples)
        if content is None:
            raise UserError(f"{folder} has no subgroups: the test images have no metadata.")
        return format_subgroups(
            content, columns, self.titles, self.interval_of, by_class=self.by_class
        )


def format_subgroups(
    content: Mapping[str, Any],
    columns: Sequence[str],
    titles: Mapping[str, str],
    interval_of: str,
    *,
    by_class: bool = True,
) -> str:
    """Format the subgroups of some columns as plain text.

    Args:
        content: The contents of ``subgroups.json``.
        columns: Names of the columns.
        titles: Titles of the metrics by name.
        interval_of: The metric whose interval is shown.
        by_class: Whether an image has one class, and subgroups are compared class by class.

    Returns:
        A table for each column, and notes, at most 80 columns wide; no newline at the end.

    Raises:
        UserError: If there is no such column.
    """
    blocks = []
    for name in columns:
        if name in content["left_out"]:
            count = content["left_out"][name]
            blocks.append(
                f"{printable(name)}: {count} values in the test part, and a table has 2 to "
                f"{MOST_VALUES}"
            )
        elif name in content["columns"]:
            blocks.append(_format_column(name, content, titles, interval_of))
        else:
            raise UserError(
                f"There are no subgroups by {name!r}; expected one or several of "
                f"{', '.join([*content['columns'], *content['left_out']])}."
            )
    notes = [
        f"[ ]: {100 * content['level']:g} % interval; units: {unit_name(content['drawn'])}; diff.: "
        f"{content['compared']} minus that of all other known values"
        f"{', over the classes of both' if by_class else ''}; p: "
        "permutation test of it, corrected for the number of subgroups (Holm)."
    ]
    lines = [
        line for note in [*notes, *subgroup_notes(content)] for line in textwrap.wrap(note, 80)
    ]
    return "\n\n".join([*blocks, "\n".join(lines)])


def _format_column(
    name: str, content: Mapping[str, Any], titles: Mapping[str, str], interval_of: str
) -> str:
    """Return the table of a column; one metric has its interval."""
    header = [name, content["examples"], "units", *titles.values(), "diff.", "p"]
    rows = [header]
    for subgroup in content["columns"][name]["subgroups"]:
        texts = _texts(subgroup, titles, format_interval)
        cells = [
            f"{value} {ends}".rstrip() if metric == interval_of else value
            for metric, (value, ends) in zip(titles, texts["metrics"], strict=True)
        ]
        counts = [texts["images"], texts["units"]]
        rows.append([texts["value"], *counts, *cells, texts["difference"], texts["p_value"]])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[0] = max(8, min(widths[0], WIDTH - sum(widths[1:]) - len(widths) + 1))
    lines = [
        " ".join(
            [
                f"{_shortened(printable(row[0]), widths[0]):<{widths[0]}}",
                *(f"{text:>{width}}" for text, width in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    ]
    unknown = content["columns"][name]["unknown"]
    if unknown:
        lines.append(f"unknown: {format_count(unknown)} {content['examples']}")
    rule = "-" * (sum(widths) + len(widths) - 1)
    return "\n".join([lines[0], rule, *lines[1:]])


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
