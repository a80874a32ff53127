"""Comparison of runs of any task: its results, and their layout as plain text."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from lmf_jax.errors import printable
from lmf_jax.evaluation.formatting import (
    format_difference,
    format_fraction,
    format_interval,
)
from lmf_jax.evaluation.resampling import LEVEL
from lmf_jax.evaluation.run_groups import GroupPair, RunGroup
from lmf_jax.evaluation.statistics import PairedDifference, SeedMean
from lmf_jax.evaluation.summary import unit_name

WIDTH = 100
SIGNIFICANCE_LEVEL = 0.05
INTERVAL = f"{100 * LEVEL:g} % interval"

Pair = TypeVar("Pair", bound=GroupPair)


@dataclass(frozen=True, kw_only=True)
class RunComparison(Generic[Pair]):
    """Results of comparing runs on the same test examples.

    Attributes:
        dataset: Name of the dataset.
        num_classes: Number of classes, for segmentation without the background.
        drawn: The independent units: the examples ("images" or "cases"), or "groups" if the lesion
            or patient of every example is known.
        run_groups: Groups of runs in the order of their first runs.
        pairs: All pairs of up to four groups; with more, the first with each other.
        holm_p: P-value of each pair's main metric, corrected for all pairs.
        class_notes: Notes on undefined metrics and on classes with few test examples.
    """

    dataset: str
    num_classes: int
    drawn: str
    run_groups: tuple[RunGroup, ...]
    pairs: tuple[Pair, ...]
    holm_p: tuple[float, ...]
    class_notes: tuple[str, ...] = ()


def format_blocks(
    comparison: RunComparison[Pair],
    title: str,
    columns: Mapping[str, str],
    pair_tables: Sequence[Sequence[str]],
    notes: Sequence[str],
    formats: Mapping[str, Callable[[float], str]] | None = None,
) -> str:
    """Format a comparison as plain text, at most 100 columns wide.

    Args:
        comparison: The comparison.
        title: Number of test examples and classes.
        columns: Names and titles of the metrics in the table of the groups.
        pair_tables: Lines of each table of the pairs.
        notes: Explanations of intervals and p-values.
        formats: Formatting functions of metrics that are not fractions.

    Returns:
        The runs, a table of their metrics, the tables of their differences and the notes; no
        newline at the end.
    """
    notes = [*notes, *comparison.class_notes]
    if any(pair.over_seeds for pair in comparison.pairs):
        notes.append(OVER_SEEDS_NOTE)
    blocks = [
        [f"{printable(comparison.dataset)}: {title}"],
        _format_runs(comparison.run_groups),
        _format_metrics(comparison.run_groups, columns, formats or {}),
        *(pair_tables if comparison.pairs else ()),
        [line for note in notes for line in textwrap.wrap(note, WIDTH)],
    ]
    return "\n\n".join("\n".join(block) for block in blocks)


def _format_runs(run_groups: Sequence[RunGroup]) -> list[str]:
    """Return lines that list the runs of each group."""
    lines = []
    for number, group in enumerate(run_groups, start=1):
        folders = ", ".join(str(run_dir) for run_dir in group.run_dirs)
        text = f"{number}  {group.name}, {_format_seeds(group.seeds)}: {folders}"
        lines += textwrap.wrap(text, WIDTH, subsequent_indent="   ", break_on_hyphens=False)
    return lines


def _format_seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _format_metrics(
    run_groups: Sequence[RunGroup],
    columns: Mapping[str, str],
    formats: Mapping[str, Callable[[float], str]],
) -> list[str]:
    """Return a table of the metrics of each group, each with its interval below it."""
    rows = [["", "", *columns.values()]]
    for number, group in enumerate(run_groups, start=1):
        values, intervals = [], []
        for name in columns:
            metric, format_value = group.metrics[name], formats.get(name, format_fraction)
            values.append(format_value(metric.value) if metric else "n/a")
            ends = metric and (metric.low, metric.high)
            intervals.append(format_interval(ends, format_value) if ends else "")
        rows += [[str(number), group.name, *values], ["", _format_seeds(group.seeds), *intervals]]
    return align_columns(rows, "<")


def format_main_differences(
    comparison: RunComparison[Pair],
    title: str,
    differences: Sequence[PairedDifference],
    other_tests: Mapping[str, Sequence[str]],
) -> list[str]:
    """Return a table of the differences of the main metric, with p-values and a verdict.

    Args:
        comparison: The comparison.
        title: Title of the metric.
        differences: Difference of each pair.
        other_tests: Texts for each pair by the title of their column.
    """
    rows = [[title, "difference", INTERVAL, "p", "Holm p", "differs", *other_tests, "over seeds"]]
    for index, (pair, difference) in enumerate(zip(comparison.pairs, differences, strict=True)):
        seeds, holm_p = pair.over_seeds, comparison.holm_p[index]
        rows.append(
            [
                _format_pair(pair),
                format_difference(difference.difference),
                format_interval((difference.low, difference.high)),
                format_p(difference.p_value),
                format_p(holm_p),
                "yes" if _differs(holm_p, seeds) else "no",
                *(column[index] for column in other_tests.values()),
                format_interval((seeds.low, seeds.high)) if seeds else "-",
            ]
        )
    return align_columns(rows, ">")


def format_other_differences(
    comparison: RunComparison[Pair],
    title: str,
    differences: Sequence[PairedDifference],
    format_change: Callable[[float], str],
    format_value: Callable[[float], str],
) -> list[str]:
    """Return a table of the differences of another metric, without p-values.

    Args:
        comparison: The comparison.
        title: Title of the metric.
        differences: Difference of each pair.
        format_change: Formats a difference.
        format_value: Formats an end of an interval.
    """
    rows = [[title, "difference", INTERVAL]]
    for pair, (difference, low, high, _) in zip(comparison.pairs, differences, strict=True):
        interval = format_interval((low, high), format_value)
        rows.append([_format_pair(pair), format_change(difference), interval])
    return align_columns(rows, ">")


def _format_pair(pair: GroupPair) -> str:
    return f"{pair.first + 1} vs {pair.second + 1}"


def align_columns(rows: Sequence[Sequence[str]], side: str) -> list[str]:
    """Align columns under a header; the second column is shortened to limit the width."""
    columns = list(zip(*rows, strict=True))
    widths = [max(len(text) for text in column) for column in columns]
    widths[1] -= max(0, sum(widths) + 2 * (len(widths) - 1) - WIDTH)
    lines = []
    for row in rows:
        cells = (
            f"{text if len(text) <= width else text[: width - 1] + '…':{side}{width}}"
            for text, width in zip(row, widths, strict=True)
        )
        lines.append("  ".join(cells).rstrip())
    return [lines[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]]


def _differs(holm_p: float, over_seeds: SeedMean | None) -> bool:
    """Return whether a difference holds on other examples and, if estimated, for other seeds."""
    is_significant = holm_p < SIGNIFICANCE_LEVEL
    return is_significant and (over_seeds is None or over_seeds.low * over_seeds.high > 0)


def format_p(value: float) -> str:
    """Format a p-value with four decimals."""
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"


def interval_notes(run_groups: Sequence[RunGroup], examples: str) -> list[str]:
    """Return notes on what the intervals of the groups cover.

    Args:
        run_groups: Groups of one or several seeds.
        examples: Plural noun for the test examples.
    """
    notes = []
    if any(len(group.seeds) == 1 for group in run_groups):
        notes.append(f"[ ] of one run: {INTERVAL} for the choice of test {examples}, not of seeds.")
    if any(len(group.seeds) > 1 for group in run_groups):
        notes.append(
            f"[ ] of several seeds: {100 * LEVEL:g} % t-interval of their mean, on these test "
            f"{examples}."
        )
    return notes


def holm_note(num_pairs: int) -> str:
    """Return the note on the correction for several pairs and the verdict."""
    return (
        f"Holm p: corrected for {num_pairs} pair{'s' if num_pairs > 1 else ''}. Runs differ where "
        f"Holm p is below {SIGNIFICANCE_LEVEL}. With one seed a side, this compares two trained "
        "models; another training may give another order."
    )


def unit_note(examples: str, drawn: str, other_test: str) -> str:
    """Return the note on the independent units.

    Args:
        examples: Plural noun for the test examples.
        drawn: The independent units, as in :class:`RunComparison`.
        other_test: How the task's other test treats groups.
    """
    if drawn == "groups":
        return (
            f"{unit_name(drawn).capitalize()}, with all their {examples}, are the independent "
            f"units; {other_test}."
        )
    return (
        f"All test {examples} are taken as independent. Where several are of one lesion or "
        "patient, intervals are too narrow and p-values too small."
    )


SEEDS_NOTE = "Seeds that both sides have (all, if they share none) enter by their mean."

OVER_SEEDS_NOTE = (
    f"Over seeds: {100 * LEVEL:g} % t-interval of the mean difference over the seeds that both "
    "sides have. Where it contains 0, another training may reverse the difference, and the runs do "
    "not differ, whatever p says."
)
