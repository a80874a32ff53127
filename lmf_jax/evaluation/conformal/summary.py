"""Prediction sets of a run as ``prediction_sets.json`` stores them, and as a table."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer

from lmf_jax.errors import printable
from lmf_jax.evaluation.conformal.coverage import SetCoverage, measure_sets
from lmf_jax.evaluation.conformal.thresholds import Threshold, fit_sets, units_needed
from lmf_jax.evaluation.formatting import align_table, format_fraction, format_interval
from lmf_jax.evaluation.resampling import Groups
from lmf_jax.evaluation.summary import MAX_NAMES, check_class_names, unit_name


class Part(NamedTuple):
    """Predictions of the validation or test part.

    Attributes:
        labels: Class ids ``[n]``.
        probabilities: Calibrated probabilities ``[n, C]``.
        groups: Lesion or patient of each image; None if all are independent.
    """

    labels: Integer[np.ndarray, " n"]
    probabilities: Float[np.ndarray, "n classes"]
    groups: Groups | None = None

    def is_class(self) -> Bool[np.ndarray, "n classes"]:
        """Return whether each image has each class."""
        return self.labels[:, None] == np.arange(self.probabilities.shape[-1])


def summarize_sets(
    validation: Part, test: Part, class_names: Sequence[str], *, level: float
) -> dict[str, Any]:
    """Calibrate prediction sets on the validation part, and measure them on the test part.

    Args:
        validation: Images that the model was not trained on.
        test: Other images.
        class_names: The ``C`` unique names by class id.
        level: Coverage of each class, in (0, 1).

    Returns:
        ``level``; ``drawn`` (``groups`` or ``images``: the independent units); ``units_needed``
        for a promise; ``pooled``, the threshold of all classes together; ``per_class``: for each
        name ``units``, ``promised``, ``threshold`` (the smallest probability with which the class
        is in a set) and ``test``; and ``test`` of all classes. A ``test`` has ``units``,
        ``images``, ``coverage``, its 95 % ``interval``, ``size``, ``singletons`` and ``empty``, see
        :class:`SetCoverage`; all but the counts are None without images.

    Raises:
        ValueError: If a probability is NaN or outside [0, 1], the level is not between 0 and 1, or
            the class names do not match the probabilities.
    """
    check_class_names(class_names, validation.probabilities.shape[-1])
    fitted = fit_sets(
        validation.is_class(), validation.probabilities, level=level, groups=validation.groups
    )
    measured, overall = measure_sets(
        fitted.contains(test.probabilities), test.is_class(), test.groups
    )
    return {
        "level": level,
        "drawn": "images" if validation.groups is None else "groups",
        "units_needed": units_needed(level),
        "pooled": _threshold_to_json(fitted.pooled),
        "per_class": {
            name: _threshold_to_json(threshold) | {"test": _coverage_to_json(coverage)}
            for name, threshold, coverage in zip(class_names, fitted.classes, measured, strict=True)
        },
        "test": _coverage_to_json(overall),
    }


def format_sets(sets: Mapping[str, Any]) -> str:
    """Format prediction sets for the terminal.

    Args:
        sets: Output of :func:`summarize_sets`.

    Returns:
        A table by class and notes, at most 80 columns wide; no newline at the end.
    """
    header: tuple[str, ...] = (
        "units",
        "from p",
        "coverage",
        "95 % interval",
        "size",
        "single",
        "empty",
    )
    rows = [("class", header)]
    for name, row in sets["per_class"].items():
        units = f"{row['units']:,}" + (" " if row["promised"] else "*")
        rows.append((printable(name), (units, *_cells(row["threshold"], row["test"]))))
    total = f"{sets['pooled']['units']:,} "
    rows.append(("all", (total, *_cells(None, sets["test"]))))
    columns = (
        f"units: validation {unit_name(sets['drawn'])}; from p: smallest calibrated probability of "
        "a class in a set; coverage: test images whose set contains their class; size: mean number "
        "of classes in a set; single, empty: sets with one class, with none."
    )
    notes = [columns, *set_notes(sets)]
    lines = [line for note in notes for line in textwrap.wrap(note, 80, break_on_hyphens=False)]
    return "\n".join([align_table(rows), *lines])


def set_notes(sets: Mapping[str, Any]) -> list[str]:
    """Say in one sentence each what is promised, what is not, and which classes are refused.

    Args:
        sets: Output of :func:`summarize_sets`.
    """
    percent, units = f"{100 * sets['level']:g} %", unit_name(sets["drawn"])
    each = "" if sets["drawn"] == "images" else ", one per lesion or patient,"
    promised = [name for name, row in sets["per_class"].items() if row["promised"]]
    refused = [name for name, row in sets["per_class"].items() if not row["promised"]]
    notes = []
    if promised:
        classes = "each class without *" if refused else "each class"
        notes += [
            f"Promised for {classes}: of new images like those of the validation part{each} at "
            f"least {percent} have their class in the set, on average over validation parts.",
            "Not promised: the level for a single image, in every subgroup, at another site, or "
            "among the images whose set is the same.",
        ]
    if refused:
        named = ", ".join(
            f"{printable(name)[:40]} ({sets['per_class'][name]['units']})"
            for name in refused[:MAX_NAMES]
        )
        more = f" and {len(refused) - MAX_NAMES} more" if len(refused) > MAX_NAMES else ""
        notes.append(
            f"* No promise for {named}{more}: {percent} needs {sets['units_needed']:,} validation "
            f"{units} of a class. Such a class is in a set from its smallest probability in "
            "validation or from the threshold of all classes together, whichever is lower."
        )
    return notes


def report_section(sets: Mapping[str, Any] | None, *, is_current: bool) -> dict[str, Any] | None:
    """Return the variables of ``section.html.j2``; None without prediction sets.

    Args:
        sets: Output of :func:`summarize_sets`.
        is_current: Whether they were made with the calibrator of the run.
    """
    if sets is None:
        return None
    return {
        **sets,
        "is_current": is_current,
        "units_name": unit_name(sets["drawn"]),
        "notes": set_notes(sets),
        "per_class": {
            name: {**row, "threshold_text": format_probability(row["threshold"])}
            for name, row in sets["per_class"].items()
        },
    }


def _cells(threshold: float | None, test: Mapping[str, Any]) -> tuple[str, ...]:
    value = "" if threshold is None else format_probability(threshold)
    if test["coverage"] is None:
        return (value, *["n/a"] * 5)
    return (
        value,
        format_fraction(test["coverage"]),
        format_interval(test["interval"]),
        f"{test['size']:.2f}",
        format_fraction(test["singletons"]),
        format_fraction(test["empty"]),
    )


def format_probability(value: float) -> str:
    """Format a probability with three decimals, or in the form ``2e-07`` if that would be 0."""
    return f"{value:.3f}" if value >= 0.0005 or value == 0 else f"{value:.0e}"


def _threshold_to_json(threshold: Threshold) -> dict[str, Any]:
    return {
        "units": threshold.units,
        "promised": threshold.promised,
        "threshold": threshold.value,
    }


def _coverage_to_json(found: SetCoverage) -> dict[str, Any]:
    return {
        "units": found.units,
        "images": found.images,
        "coverage": found.coverage,
        "interval": None if found.interval is None else list(found.interval),
        "size": found.size,
        "singletons": found.singletons,
        "empty": found.empty,
    }
