"""How a report writes numbers, settings and tables, on a page and in the terminal."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lmf_jax.errors import printable


def format_fraction(value: float | int | None) -> str:
    """Write a metric with three decimals: 0.8734 -> ``0.873``; an undefined one as ``n/a``."""
    return "n/a" if value is None else f"{_without_negative_zero(value, 3):.3f}"


def format_difference(value: float | int) -> str:
    """Write a difference of two metrics with its sign: 0.0123 -> ``+0.012``."""
    return f"{_without_negative_zero(value, 3):+.3f}"


def undefined_notes(test: Mapping[str, Any], part: str = "test") -> list[str]:
    """Say why metrics are not available, one sentence for each reason.

    Args:
        test: the metrics of a classifier in the form of ``test.json``.
        part: of the data that the metrics are of.
    """
    per_class = test["per_class"].items()
    absent = [printable(name) for name, metrics in per_class if not metrics["support"]]
    notes = []
    if absent:
        notes.append(
            f"No {part} images of {', '.join(absent)}: n/a, counted as 0 in macro precision, "
            "recall and F1, and left out of the other macro means."
        )
    if test["auroc"] is None:
        notes.append(f"All {part} images are of one class: AUROC and average precision are n/a.")
    return notes


def absent_class_notes(test: Mapping[str, Any], part: str = "test") -> list[str]:
    """Say which foreground classes are in the truth of no case, and what they then count as.

    Args:
        test: the metrics of a segmenter in the form of ``test.json``.
        part: of the data that the metrics are of.
    """
    _, *foreground = test["per_class"].items()
    absent = [printable(name) for name, metrics in foreground if not metrics["support"]]
    if not absent:
        return []
    return [
        f"No {part} cases of {', '.join(absent)}: a case in which none is predicted counts as 1, "
        "any other as 0."
    ]


def format_interval(
    interval: Sequence[float], write: Callable[[float], str] = format_fraction
) -> str:
    """Write the ends of an interval: [0.8734, 0.9] -> ``[0.873, 0.900]``."""
    low, high = interval
    return f"[{write(low)}, {write(high)}]"


def format_range(
    interval: Sequence[float] | None, write: Callable[[float], str] = format_fraction
) -> str:
    """Write the ends of an interval for a page: [0.8734, 0.9] -> ``0.873 to 0.900``."""
    return "" if interval is None else " to ".join(map(write, interval))


def format_distance(value: float | int) -> str:
    """Write a distance in mm or pixels with one decimal: 12.345 -> ``12.3``."""
    return f"{_without_negative_zero(value, 1):,.1f}"


def format_distance_difference(value: float | int) -> str:
    """Write a difference of two distances with its sign: -12.345 -> ``-12.3``."""
    return f"{_without_negative_zero(value, 1):+,.1f}"


def _without_negative_zero(value: float | int, decimals: int) -> float:
    """Round a number; what rounds to zero from below is written without its minus."""
    return round(float(value), decimals) + 0.0


def format_count(value: int) -> str:
    """Write a number of images: 10015 -> ``10,015``."""
    return f"{value:,}"


def format_percent(share: float | int) -> str:
    """Write a share in percent with two digits, or more near 100: 0.9984 -> ``99.84``."""
    percent = 100 * share
    return f"{percent:.4g}" if percent >= 99 else f"{percent:.2g}"


def format_ratio(ratio: float | int) -> str:
    """Write a ratio with three digits, or all before the point: 5123.4 -> ``5,123``."""
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"


def format_duration(seconds: float | int) -> str:
    """Write a duration in its two largest units: 4210 -> ``1 h 10 min``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def format_setting(value: Any) -> str:
    """Write a setting of the configuration as a person would: True -> ``yes``, None -> ``none``."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, (list, tuple)):
        return ", ".join(format_setting(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else printable(str(value))


def align_table(rows: Sequence[tuple[str, tuple[str, ...]]]) -> str:
    """Lay out a table of names and numbers, at most 80 columns wide.

    Args:
        rows: name and cells of each, the head first and the mean last, which stand between rules.

    Returns:
        Lines without a newline at the end, the names to the left and shortened where a row would be
        too wide, the cells to the right.
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
