"""Format numbers, settings and tables for reports and the terminal."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from lmf_jax.errors import printable
from lmf_jax.evaluation.summary import unit_name


def format_fraction(value: float | int | None) -> str:
    """Format a metric with three decimals, 0.8734 as ``0.873``; None as ``n/a``."""
    return "n/a" if value is None else f"{_without_negative_zero(value, 3):.3f}"


def format_difference(value: float | int) -> str:
    """Format a difference of two metrics with its sign, 0.0123 as ``+0.012``."""
    return f"{_without_negative_zero(value, 3):+.3f}"


def format_interval(
    interval: Sequence[float], format_value: Callable[[float], str] = format_fraction
) -> str:
    """Format an interval for the terminal, [0.8734, 0.9] as ``[0.873, 0.900]``."""
    low, high = interval
    return f"[{format_value(low)}, {format_value(high)}]"


def format_range(
    interval: Sequence[float] | None, format_value: Callable[[float], str] = format_fraction
) -> str:
    """Format an interval for a page, [0.8734, 0.9] as ``0.873 to 0.900``; None as nothing."""
    return "" if interval is None else " to ".join(map(format_value, interval))


def format_distance(value: float | int) -> str:
    """Format a distance in mm or pixels with one decimal, 12.345 as ``12.3``."""
    return f"{_without_negative_zero(value, 1):,.1f}"


def format_distance_difference(value: float | int) -> str:
    """Format a difference of two distances with its sign, -12.345 as ``-12.3``."""
    return f"{_without_negative_zero(value, 1):+,.1f}"


def _without_negative_zero(value: float | int, decimals: int) -> float:
    """Round a number; negative zero becomes zero."""
    return round(float(value), decimals) + 0.0


def format_count(value: int) -> str:
    """Format a count, 10015 as ``10,015``."""
    return f"{value:,}"


def format_percent(fraction: float | int) -> str:
    """Format a fraction in percent with two significant digits, from 99 % on with four."""
    percent = 100 * fraction
    return f"{percent:.4g}" if percent >= 99 else f"{percent:.2g}"


def format_ratio(ratio: float | int) -> str:
    """Format a ratio with three digits, or all integer digits: 5123.4 as ``5,123``."""
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"


def format_duration(seconds: float | int) -> str:
    """Format a duration in its two largest units, 4210 as ``1 h 10 min``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def format_setting(value: Any) -> str:
    """Format a setting of the configuration: True as ``yes``, None as ``none``."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, (list, tuple)):
        return ", ".join(format_setting(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else printable(str(value))


def align_table(rows: Sequence[tuple[str, tuple[str, ...]]]) -> str:
    """Format a table of names and numbers, at most 80 columns wide.

    Args:
        rows: Name and cells of each row; the first is the header and the last the mean, which are
            separated by rules.

    Returns:
        Lines without a newline at the end. Names are aligned to the left and shortened in rows that
        would be too wide; cells are aligned to the right.
    """
    widths = [
        max(len(text) for text in column) for column in zip(*(n for _, n in rows), strict=True)
    ]
    name_width = min(80 - sum(2 + width for width in widths), max(len(name) for name, _ in rows))
    lines = []
    for name, numbers in rows:
        name = " ".join(name.split())
        name = name if len(name) <= name_width else name[: name_width - 1] + "…"
        cells = (f"  {text:>{width}}" for text, width in zip(numbers, widths, strict=True))
        lines.append((f"{name:<{name_width}}" + "".join(cells)).rstrip())
    rule = "-" * (name_width + sum(2 + width for width in widths))
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def format_metrics(
    test: Mapping[str, Any],
    titles: Mapping[str, str],
    *,
    part: str,
    notes: Sequence[str],
    format_value: Callable[[str, Any], str],
    widths: tuple[int, int],
) -> str:
    """Format each metric of a whole test with its interval, a line each, above some notes.

    Args:
        test: The contents of ``test.json``.
        titles: Names and titles of the metrics.
        part: Part of the data that the metrics were computed on.
        notes: Sentences to wrap below the metrics.
        format_value: Called with the name and the value of a metric.
        widths: Columns of the titles and of the values.

    Returns:
        Lines of at most 80 columns without a newline at the end.
    """
    intervals = test["intervals"]
    lines = []
    for name, title in titles.items():
        ends, value = intervals[name], format_value(name, test[name])
        interval = format_interval(ends, partial(format_value, name)) if ends else ""
        lines.append(f"{title:<{widths[0]}} {value:>{widths[1]}}  {interval}".rstrip())
    units = unit_name(intervals["drawn"])
    lines.append(f"[ ]: {100 * intervals['level']:g} % interval for the choice of {part} {units}")
    for note in notes:
        lines += textwrap.wrap(note, 80, break_on_hyphens=False)
    return "\n".join(lines)
