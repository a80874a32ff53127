"""Parts of ``test.json`` and notes on them that all tasks share."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from lmf_jax.errors import printable
from lmf_jax.evaluation.resampling import FEW_UNITS, LEVEL, NUM_RESAMPLES, Groups, unit_codes

SEED = 0
"""Seed of the resamples; it is fixed so that equal predictions get equal intervals."""

MAX_NAMES = 6
"""Maximum number of classes that a note lists by name."""


def describe_intervals(
    method: str,
    examples: str,
    has_class: Bool[np.ndarray, "n classes"],
    class_names: Sequence[str],
    groups: Groups | None,
) -> dict[str, Any]:
    """Return the keys of ``intervals`` in ``test.json`` that say how the intervals were computed.

    Args:
        method: Name of the method.
        examples: Plural noun for the test examples, such as "images".
        has_class: Whether each example contains each class ``[n, C]``.
        class_names: The ``C`` names.
        groups: Lesion or patient of each example; None if all examples are independent.

    Returns:
        ``method``, ``level``, ``resamples``, ``seed``, ``drawn`` (``examples`` or ``groups``) and
        ``units``, the number of independent units with each class.
    """
    codes = unit_codes(len(has_class), groups)
    return {
        "method": method,
        "level": LEVEL,
        "resamples": NUM_RESAMPLES,
        "seed": SEED,
        "drawn": examples if groups is None else "groups",
        "units": {
            name: len(np.unique(codes[column]))
            for name, column in zip(class_names, has_class.T, strict=True)
        },
    }


def unit_name(drawn: str) -> str:
    """Return the plural noun for the independent units: the examples, or lesions or patients."""
    return "lesions or patients" if drawn == "groups" else drawn


def few_units_notes(test: Mapping[str, Any]) -> list[str]:
    """Name the classes that have fewer than ``FEW_UNITS`` independent units in the test.

    Args:
        test: The contents of ``test.json``. Files of earlier versions do not count units.

    Returns:
        One note, or none if there is no such class. Classes without any unit are left out.
    """
    intervals = test["intervals"]
    counts = sorted(intervals.get("units", {}).items(), key=lambda item: item[1])
    few = [f"{printable(name)[:40]} ({count})" for name, count in counts if 0 < count < FEW_UNITS]
    if not few:
        return []
    more = f" and {len(few) - MAX_NAMES} more" if len(few) > MAX_NAMES else ""
    return [
        f"Classes with fewer than {FEW_UNITS} test {unit_name(intervals['drawn'])}: "
        f"{', '.join(few[:MAX_NAMES])}{more}. Their scores, and the means over the classes, are "
        "uncertain: read the intervals."
    ]


def check_class_names(class_names: Sequence[str], num_classes: int) -> None:
    """Raise ValueError unless every class has a unique name."""
    if len(class_names) != num_classes:
        raise ValueError(
            f"There are {len(class_names)} class names for {num_classes} classes; "
            "expected one name for each class."
        )
    repeated = sorted({name for name in class_names if list(class_names).count(name) > 1})
    if repeated:
        raise ValueError(f"The class names repeat {', '.join(repeated)}; each must be unique.")
