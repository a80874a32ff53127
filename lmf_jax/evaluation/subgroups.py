"""Subgroups of a test part by the metadata of its images, such as sex, age or site.

The functions here do not depend on the task: a task passes a score of every image or case, and a
function that measures some of them.
"""

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Integer, Shaped

from lmf_jax.errors import printable
from lmf_jax.evaluation.permutation import NUM_PERMUTATIONS
from lmf_jax.evaluation.resampling import FEW_UNITS, LEVEL, Groups, num_units
from lmf_jax.evaluation.statistics import holm
from lmf_jax.evaluation.summary import MAX_NAMES, SEED, unit_name
from lmf_jax.evaluation.unpaired import unpaired_test

MOST_VALUES = 20
"""Maximum number of values of a column; HAM10000 has 15 sites."""

MOST_NUMBERS = 12
"""Maximum number of values of a numeric column that is not banded."""

AGE_BANDS = (30, 50, 70)
"""Ages at which a band begins."""

Measures = tuple[dict[str, float | None], dict[str, list[float] | None]]
"""Metrics of some images, and the ends of their intervals."""


class Column(NamedTuple):
    """A column of metadata that divides a test part.

    Attributes:
        values: Value or band of each image, unicode [n]; "" is unknown.
        order: The values, in the order of the table.
        has_bands: Whether the values are bands of numbers.
    """

    values: Shaped[np.ndarray, " n"]
    order: tuple[str, ...]
    has_bands: bool


def divide(name: str, values: Shaped[np.ndarray, " n"]) -> Column:
    """Return a column with numbers in bands if they have more than :data:`MOST_NUMBERS` values.

    Ages (columns with the word "age") are banded as below 30, 30 to 49, 50 to 69, and 70 and above,
    other numbers by the quartiles of the known values.

    Args:
        name: Name of the column.
        values: Value of each image; "" is unknown.
    """
    known = {value for value in values.tolist() if value}
    numbers = {value: number for value in known if (number := _number(value)) is not None}
    if known and len(numbers) == len(known):
        if len(known) <= MOST_NUMBERS:
            return Column(values, tuple(sorted(known, key=lambda v: (numbers[v], v))), False)
        is_age = "age" in re.split(r"[^a-z]+", name.lower())
        banded, order = (_age_bands if is_age else _quartiles)(values, numbers)
        present = set(banded.tolist())
        return Column(banded, tuple(band for band in order if band in present), True)
    return Column(values, tuple(sorted(known)), False)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _age_bands(
    values: Shaped[np.ndarray, " n"], numbers: Mapping[str, float]
) -> tuple[Shaped[np.ndarray, " n"], list[str]]:
    first, *_, last = AGE_BANDS
    inner = [f"{low} to {high - 1}" for low, high in itertools.pairwise(AGE_BANDS)]
    order = [f"below {first}", *inner, f"{last} and above"]
    band_of = {text: order[_position(AGE_BANDS, n, right=True)] for text, n in numbers.items()}
    return np.array([band_of.get(value, "") for value in values.tolist()]), order


def _quartiles(
    values: Shaped[np.ndarray, " n"], numbers: Mapping[str, float]
) -> tuple[Shaped[np.ndarray, " n"], list[str]]:
    known = [numbers[value] for value in values.tolist() if value]
    cuts = np.unique(np.quantile(known, [0.25, 0.5, 0.75], method="lower")).tolist()
    inner = [f"above {low:g} to {high:g}" for low, high in itertools.pairwise(cuts)]
    order = [f"up to {cuts[0]:g}", *inner, f"above {cuts[-1]:g}"]
    band_of = {text: order[_position(cuts, n, right=False)] for text, n in numbers.items()}
    return np.array([band_of.get(value, "") for value in values.tolist()]), order


def _position(cuts: Sequence[float | int], number: float, *, right: bool) -> int:
    """Return the band of a number; ``right`` puts a cut itself into the band above it."""
    return int(np.searchsorted(cuts, number, side="right" if right else "left"))


def summarize_subgroups(
    metadata: Mapping[str, Shaped[np.ndarray, " n"]],
    scores: Shaped[np.ndarray, " n"],
    labels: Integer[np.ndarray, " n"],
    measure: Callable[[Int[np.ndarray, " m"]], Measures],
    *,
    examples: str,
    compared: str,
    groups: Groups | None = None,
) -> dict[str, Any]:
    """Measure every subgroup of a test part, and compare it with the rest.

    A column is used if it has 2 to 20 values; the subgroup of a value is compared with the images
    of the other known values by :func:`unpaired_test`. The p-values are corrected for the number of
    all subgroups (Holm).

    Args:
        metadata: Value of each image by column, unicode; "" is unknown.
        scores: Score of each image, such as whether its prediction is correct.
        labels: Class id of each image, whose mix is not compared; zeros if there is one class.
        measure: Called with the row numbers of a subgroup; returns its metrics and intervals.
        examples: Plural noun for the images or cases.
        compared: Name of the mean of the scores, such as "macro recall".
        groups: Lesion or patient of each image; None if all images are independent.

    Returns:
        The contents of ``subgroups.json``: ``level``, ``permutations``, ``seed``, ``examples``,
        ``drawn`` (``examples`` or ``groups``), ``compared``; ``columns``: for each name ``bands``
        (whether the values are bands of numbers), ``unknown`` (images without a value) and
        ``subgroups``, a list of ``value``, ``images``, ``units``, the metrics, ``intervals``,
        ``difference``, ``p_value`` and ``corrected_p_value`` (None if no class is in both sides);
        and ``left_out``, the number of values of every other column.
    """
    columns: dict[str, Any] = {}
    left_out: dict[str, int] = {}
    for name, values in metadata.items():
        column = divide(name, values)
        if not 2 <= len(column.order) <= MOST_VALUES:
            left_out[name] = len(column.order)
            continue
        known = np.flatnonzero(column.values != "")
        columns[name] = {
            "bands": column.has_bands,
            "unknown": len(values) - len(known),
            "subgroups": [
                _subgroup(value, known, column.values == value, scores, labels, measure, groups)
                for value in column.order
            ],
        }
    _correct([subgroup for column in columns.values() for subgroup in column["subgroups"]])
    return {
        "level": LEVEL,
        "permutations": NUM_PERMUTATIONS,
        "seed": SEED,
        "examples": examples,
        "drawn": examples if groups is None else "groups",
        "compared": compared,
        "columns": columns,
        "left_out": left_out,
    }


def _subgroup(
    value: str,
    known: Int[np.ndarray, " known"],
    has_value: Bool[np.ndarray, " n"],
    scores: Shaped[np.ndarray, " n"],
    labels: Integer[np.ndarray, " n"],
    measure: Callable[[Int[np.ndarray, " m"]], Measures],
    groups: Groups | None,
) -> dict[str, Any]:
    rows = np.flatnonzero(has_value)
    metrics, intervals = measure(rows)
    test = unpaired_test(
        scores[known],
        has_value[known],
        labels[known],
        groups=None if groups is None else groups[known],
        seed=SEED,
    )
    return {
        "value": value,
        "images": len(rows),
        "units": num_units(len(rows), None if groups is None else groups[rows]),
        **metrics,
        "intervals": intervals,
        "difference": test.difference,
        "p_value": test.p_value,
    }


def _correct(subgroups: Sequence[dict[str, Any]]) -> None:
    """Add the p-values corrected for the number of tests."""
    tested = [subgroup for subgroup in subgroups if subgroup["p_value"] is not None]
    corrected = holm([subgroup["p_value"] for subgroup in tested])
    for subgroup in subgroups:
        subgroup["corrected_p_value"] = None
    for subgroup, p_value in zip(tested, corrected, strict=True):
        subgroup["corrected_p_value"] = p_value


def subgroup_notes(content: Mapping[str, Any]) -> list[str]:
    """Name the subgroups with few independent units, and the columns that were left out.

    Args:
        content: The contents of ``subgroups.json``.

    Returns:
        Up to two notes.
    """
    units = unit_name(content["drawn"])
    few = sorted(
        (subgroup["units"], f"{printable(name)} {printable(subgroup['value'])}"[:60])
        for name, column in content["columns"].items()
        for subgroup in column["subgroups"]
        if subgroup["units"] < FEW_UNITS
    )
    notes = []
    if few:
        named = [f"{name} ({count})" for count, name in few]
        notes.append(
            f"Subgroups with fewer than {FEW_UNITS} {units}: {_first(named)}. Their figures are "
            "uncertain: read the intervals."
        )
    if content["left_out"]:
        named = [f"{printable(name)[:40]} ({count})" for name, count in content["left_out"].items()]
        notes.append(
            f"Columns with fewer than 2 or more than {MOST_VALUES} values in the test part are "
            f"left out: {_first(named)}."
        )
    return notes


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"{', '.join(names[:MAX_NAMES])}{more}"
