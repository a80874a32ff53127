"""Describe an operating point in plain words."""

import textwrap
from collections.abc import Iterator, Mapping
from math import ceil, log
from typing import Any

from lmf_jax.errors import printable
from lmf_jax.evaluation.resampling import FEW_UNITS
from lmf_jax.evaluation.summary import unit_name

WIDTH = 80
_SIGN = 18
"""Columns of an interval."""


def describe_point(point: Mapping[str, Any]) -> str:
    """Describe an operating point for the terminal.

    Args:
        point: Output of :func:`lmf_jax.evaluation.operating.point.operating_point`.

    Returns:
        Lines of at most 80 columns, without a newline at the end.
    """
    name = class_label(point)
    lines = [
        *_wrap(f"{name}, {describe_target(point)}"),
        "",
        *_wrap(
            f"Threshold: an image is positive if its probability of {name} is at least "
            f"{format_threshold(point['threshold'])}."
        ),
        *_wrap(guarantee(point)),
        "",
        *_test_lines(point, name),
    ]
    if point["at_prevalence"] is not None:
        lines += ["", *_prevalence_lines(point["at_prevalence"], name)]
    units = unit_name(point["drawn"])
    lines += [
        "",
        f"[ ]: {100 * point['interval_level']:g} % interval for the choice of test {units}",
    ]
    return "\n".join(lines)


def class_label(point: Mapping[str, Any]) -> str:
    """Return the name of the class, printable and at most 40 characters long."""
    name = printable(point["class"])
    return name if len(name) <= 40 else name[:39] + "…"


def describe_target(point: Mapping[str, Any]) -> str:
    """Describe the target of a point, such as ``sensitivity of at least 0.95``."""
    kind, value = point["target"]["kind"], point["target"]["value"]
    if kind == "cost_ratio":
        return f"lowest cost if a missed case costs {value:g} times a false alarm"
    return f"{'PPV' if kind == 'ppv' else kind} of at least {value:g}"


def guarantee(point: Mapping[str, Any]) -> str:
    """Say in one or two sentences whether the target is guaranteed, and why not."""
    kind, value = point["target"]["kind"], point["target"]["value"]
    level = f"{100 * point['guarantee_level']:g} %"
    title = "PPV" if kind == "ppv" else kind
    if kind == "cost_ratio":
        return (
            "No guarantee is made for a cost ratio: the threshold has the lowest expected cost on "
            "the validation images."
        )
    seen = f"On validation, {_seen(point)}"
    if point["guaranteed"]:
        return (
            f"Guaranteed: with {level} confidence, the {title} on new images like the validation "
            f"images is at least {value:g}. {seen}, which shows at least {point['bound']:.3f}."
        )
    if kind == "ppv":
        return (
            f"Not guaranteed: the validation images are too few to show a PPV of {value:g} with "
            f"{level} confidence. {seen}."
        )
    if value == 1:
        return (
            f"Not guaranteed: no number of images can show a {title} of 1. {seen}. For a "
            "guarantee, choose a smaller one, such as 0.95."
        )
    needed = ceil(log(1 - point["guarantee_level"]) / log(value))
    return (
        f"Not guaranteed: {level} confidence in a {title} of {value:g} needs at least {needed:,} "
        f"independent {_needed_units(point)}, more if some have more images. {seen}."
    )


def _needed_units(point: Mapping[str, Any]) -> str:
    of = "of the class" if point["target"]["kind"] == "sensitivity" else "of other classes"
    return f"validation {unit_name(point['drawn'])} {of}"


def _seen(point: Mapping[str, Any]) -> str:
    """Say what was observed on validation, as counts."""
    counts, name, kind = point["validation"], class_label(point), point["target"]["kind"]
    found, missed = counts["true_positives"], counts["false_negatives"]
    alarms, rejected = counts["false_positives"], counts["true_negatives"]
    if kind == "sensitivity":
        units = ""
        if point["drawn"] == "groups":
            units = f" (of {counts['class_units']:,} lesions or patients)"
        return f"{found:,} of {found + missed:,} images of {name}{units} are found"
    if kind == "specificity":
        return f"{rejected:,} of {rejected + alarms:,} other images are negative"
    return f"{found:,} of {found + alarms:,} positive images are of {name}"


_ALL = ("true_positives", "false_negatives", "false_positives", "true_negatives")


def _test_lines(point: Mapping[str, Any], name: str) -> Iterator[str]:
    counts, rates = point["test"], point["rates"]
    of_class = counts["true_positives"] + counts["false_negatives"]
    yield f"Test part: {of_class:,} images of {name} among {sum(counts[key] for key in _ALL):,}."
    yield from _rate(f"finds {{}} of 100 images of {name}", rates["sensitivity"])
    yield from _rate("calls {} of 100 other images positive", _complement(rates["specificity"]))
    yield from _predictive_lines(rates, name)
    if of_class:
        yield from _wrap(_expectation(point, of_class))
    if 0 < counts["class_units"] < FEW_UNITS:
        units = unit_name(point["drawn"])
        yield from _wrap(
            f"The test part has {counts['class_units']} {units} of {name}: read the intervals."
        )


def _expectation(point: Mapping[str, Any], num_images: int) -> str:
    """Compare the sensitivity with what was expected of it before the test."""
    low, high = point["prediction"]["sensitivity"]
    level = f"{100 * point['prediction']['level']:g} %"
    text = (
        f"Expected from validation: to find {_per_100(low)} to {_per_100(high)} of 100 in a sample "
        f"of {num_images:,} images ({level} prediction interval)."
    )
    is_inside = low - 1e-9 <= point["rates"]["sensitivity"]["value"] <= high + 1e-9
    return text if is_inside else f"{text} The test part differs from the validation part."


def _prevalence_lines(elsewhere: Mapping[str, Any], name: str) -> Iterator[str]:
    yield f"Where {_per_100(elsewhere['prevalence'])} of 100 images are of {name}:"
    yield from _predictive_lines(elsewhere["rates"], name)


def _predictive_lines(rates: Mapping[str, Any], name: str) -> Iterator[str]:
    yield from _rate("calls {} of 100 images positive", rates["flagged"])
    yield from _rate(f"of 100 positive images, {{}} are {name} (PPV)", rates["ppv"])
    yield from _rate(f"of 100 negative images, {{}} are not {name} (NPV)", rates["npv"])


def _rate(sentence: str, estimate: Mapping[str, float] | None) -> Iterator[str]:
    """Yield a line with a rate as a number of 100, and its interval to the right."""
    if estimate is None:
        yield f"  {sentence.format('n/a')}"
        return
    text = sentence.format(_per_100(estimate["value"]))
    interval = f"[{_per_100(estimate['low'])} to {_per_100(estimate['high'])}]"
    first, *rest = textwrap.wrap(text, WIDTH - 2 - _SIGN, break_on_hyphens=False)
    yield f"  {first:<{WIDTH - 2 - _SIGN}}{interval}"
    yield from (f"    {line}" for line in rest)


def _per_100(fraction: float) -> str:
    """Format a fraction as a number of 100, with a decimal below 10 and above 99."""
    percent = 100 * fraction
    if percent in (0, 100) or 10 <= percent <= 99:
        return f"{percent:.0f}"
    return f"{min(max(percent, 0.1), 99.9):.1f}"


def _complement(estimate: Mapping[str, float] | None) -> dict[str, float] | None:
    if estimate is None:
        return None
    return {
        "value": 1 - estimate["value"],
        "low": 1 - estimate["high"],
        "high": 1 - estimate["low"],
    }


def format_threshold(value: float) -> str:
    """Format a threshold with three digits: 0.0123, and 0.998."""
    return f"{value:.3g}" if value < 0.1 else f"{value:.3f}"


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_on_hyphens=False)
