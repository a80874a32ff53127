"""Runs that were tested on the same images, put together that differ in their seed alone.

What a comparison of any task begins with, and how it is laid out.
"""

import json
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Int

from lmf_jax.config import run_only_keys
from lmf_jax.errors import UserError
from lmf_jax.evaluation.formatting import format_fraction, format_interval, format_setting
from lmf_jax.evaluation.resampling import LEVEL, Groups
from lmf_jax.evaluation.statistics import SeedMean, mean_over_seeds
from lmf_jax.runs.files import Finished

WIDTH = 100
SIGNIFICANT = 0.05
MOST_GROUPS_IN_ALL_PAIRS = 4

Run = TypeVar("Run", bound=Finished)


class Estimate(NamedTuple):
    """A metric and the two ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RunGroup:
    """Runs whose settings are equal but for the seed.

    Attributes:
        name: the settings that tell it from the other groups.
        run_dirs: the folder of each run.
        seeds: the seed of each.
        metrics: by their names in ``test.json``. Of one run its own, with its intervals; of
            several the means over seeds, with t-intervals. None where a metric is undefined.
    """

    name: str
    run_dirs: tuple[Path, ...]
    seeds: tuple[int, ...]
    metrics: Mapping[str, Estimate | None]


@dataclass(frozen=True)
class SameTest(Generic[Run]):
    """Runs that were tested on the same images or cases.

    Attributes:
        run_dirs: the folder of each.
        runs: what the folders hold.
        orders: for each run, where in it the images are that come first, second, ... in all.
        groups: lesion or patient of each image, in the common order; None where no run knows them.
    """

    run_dirs: Sequence[Path]
    runs: Sequence[Run]
    orders: Sequence[Int[np.ndarray, " n"]]
    groups: Groups | None


def read_runs(
    run_dirs: Sequence[str | Path], read: Callable[[Path], Run], tested: str = "images"
) -> SameTest[Run]:
    """Read the runs that are to be compared.

    Args:
        run_dirs: the folders that ``train.py`` wrote, at least two.
        read: what reads one.
        tested: what they were tested on, in words.

    Raises:
        UserError: if a folder is not that of a finished run or is given twice, if there are fewer
            than two, or if two runs differ in their data, their split or their test images.
    """
    folders = [Path(run_dir) for run_dir in run_dirs]
    if len(folders) < 2:
        raise UserError("A comparison needs the folders of at least two runs.")
    resolved = [folder.resolve() for folder in folders]
    for number, folder in enumerate(folders):
        if resolved[number] in resolved[:number]:
            raise UserError(f"The run in {folder} is given twice; give each run once.")
    runs = [read(folder) for folder in folders]
    orders = [np.argsort(run.ids, kind="stable") for run in runs]
    for folder, run, order in zip(folders[1:], runs[1:], orders[1:], strict=True):
        if run.dataset["fingerprint"] != runs[0].dataset["fingerprint"]:
            raise UserError(
                f"The runs in {folders[0]} and {folder} saw different images, labels or splits; "
                "compare runs of one dataset and one split."
            )
        if not np.array_equal(run.ids[order], runs[0].ids[orders[0]]):
            raise UserError(
                f"The runs in {folders[0]} and {folder} were tested on different {tested}; "
                "compare runs that were tested on the same ones."
            )
    known = [
        run.groups[order] for run, order in zip(runs, orders, strict=True) if run.groups is not None
    ]
    return SameTest(folders, runs, orders, known[0] if known else None)


def group_runs(
    same: SameTest, metrics: Iterable[str]
) -> tuple[list[list[int]], tuple[RunGroup, ...]]:
    """Put runs together that differ in their seed alone.

    Args:
        same: from :func:`read_runs`.
        metrics: of ``test.json``, to estimate for each group.

    Returns:
        The numbers of the runs of each group, and the groups, in the order of their first runs.
    """
    members, metrics = _group(same.runs), list(metrics)
    groups = (
        RunGroup(
            name=name,
            run_dirs=tuple(same.run_dirs[number] for number in numbers),
            seeds=tuple(_seed(same.runs[number]) for number in numbers),
            metrics={
                metric: _estimate([same.runs[number] for number in numbers], metric)
                for metric in metrics
            },
        )
        for name, numbers in zip(_names(same, members), members, strict=True)
    )
    return members, tuple(groups)


def pairs_of_groups(number: int) -> list[tuple[int, int]]:
    """Return the pairs to compare: all of up to four groups; of more, the first with each other."""
    pairs = list(combinations(range(number), 2))
    return pairs if number <= MOST_GROUPS_IN_ALL_PAIRS else [p for p in pairs if p[0] == 0]


def _group(runs: Sequence[Finished]) -> list[list[int]]:
    """Put runs together that differ in their seed alone; a seed that comes again starts anew."""
    members: dict[tuple[str, int], list[int]] = {}
    for number, run in enumerate(runs):
        settings = json.dumps(_settings(run), sort_keys=True)
        again = sum(
            _seed(earlier) == _seed(run) and _settings(earlier) == _settings(run)
            for earlier in runs[:number]
        )
        members.setdefault((settings, again), []).append(number)
    return list(members.values())


def _settings(run: Finished) -> dict[str, Any]:
    """Return what a result depends on but for the seed, and not where and how the run ran."""
    passed_over = {"seed"} | run_only_keys()
    return {name: value for name, value in run.config.items() if name not in passed_over}


def _seed(run: Finished) -> int:
    return int(run.config["seed"])


def _names(same: SameTest, members: Sequence[Sequence[int]]) -> list[str]:
    """Name each group by the settings in which the groups differ, or else by its first folder."""
    settings = [_settings(same.runs[numbers[0]]) for numbers in members]
    every = {name: None for group in settings for name in group}
    differing = [name for name in every if len({repr(g.get(name)) for g in settings}) > 1]
    differing.sort(key=lambda name: name not in ("model", "loss"))
    names = [
        ", ".join(
            ("" if name in ("model", "loss") else name.replace("_", " ") + " ")
            + format_setting(group.get(name))
            for name in differing
        )
        for group in settings
    ]
    return [
        name if name and names.count(name) == 1 else same.run_dirs[numbers[0]].name
        for name, numbers in zip(names, members, strict=True)
    ]


def _estimate(runs: Sequence[Finished], metric: str) -> Estimate | None:
    values = [run.test[metric] for run in runs]
    if None in values:
        return None
    if len(runs) == 1:
        return Estimate(values[0], *runs[0].test["intervals"][metric])
    over_seeds = mean_over_seeds(values)
    return Estimate(over_seeds.mean, over_seeds.low, over_seeds.high)


def match_seeds(
    runs: Sequence[Finished], first: Sequence[int], second: Sequence[int]
) -> tuple[tuple[int, ...], list[int], list[int]]:
    """Return the seeds that two groups share and their runs; without any, all runs of both."""
    a, b = ({_seed(runs[number]): number for number in side} for side in (first, second))
    shared = tuple(seed for seed in a if seed in b)
    return shared, [a[seed] for seed in shared or a], [b[seed] for seed in shared or b]


def format_runs(groups: Sequence[RunGroup]) -> list[str]:
    """Return lines that say which runs each group is of."""
    lines = []
    for number, group in enumerate(groups, start=1):
        folders = ", ".join(str(run_dir) for run_dir in group.run_dirs)
        text = f"{number}  {group.name}, {_format_seeds(group.seeds)}: {folders}"
        lines += textwrap.wrap(text, WIDTH, subsequent_indent="   ", break_on_hyphens=False)
    return lines


def _format_seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def format_metrics(
    groups: Sequence[RunGroup],
    columns: Mapping[str, str],
    writers: Mapping[str, Callable[[float], str]] | None = None,
) -> list[str]:
    """Return a table of the metrics of each group, each with its interval below it.

    Args:
        groups: from :func:`group_runs`.
        columns: metrics and their titles.
        writers: what writes a metric that is no fraction.
    """
    rows = [["", "", *columns.values()]]
    for number, group in enumerate(groups, start=1):
        values, ends = [], []
        for name in columns:
            metric, write = group.metrics[name], (writers or {}).get(name, format_fraction)
            values.append(write(metric.value) if metric else "n/a")
            ends.append(format_interval((metric.low, metric.high), write) if metric else "")
        rows += [[str(number), group.name, *values], ["", _format_seeds(group.seeds), *ends]]
    return align_columns(rows, "<")


def align_columns(rows: Sequence[Sequence[str]], side: str) -> list[str]:
    """Align columns under a header; the second is shortened where a row would be too wide."""
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


def differs(holm_p: float, over_seeds: SeedMean | None) -> bool:
    """Whether a difference would hold on other images, and for other seeds where there are such."""
    return holm_p < SIGNIFICANT and (over_seeds is None or over_seeds.low * over_seeds.high > 0)


def format_p(value: float) -> str:
    """Write a p-value with four decimals."""
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"


def interval_notes(groups: Sequence[RunGroup], tested: str) -> list[str]:
    """Say what the intervals of groups cover.

    Args:
        groups: some of one run, some perhaps of several seeds.
        tested: what was tested, as "images".
    """
    percent = f"{100 * LEVEL:g} %"
    notes = []
    if any(len(group.seeds) == 1 for group in groups):
        notes.append(
            f"[ ] of one run: {percent} interval over other test {tested}, not over other seeds."
        )
    if any(len(group.seeds) > 1 for group in groups):
        notes.append(
            f"[ ] of several seeds: {percent} t-interval of their mean, on these test {tested}."
        )
    return notes


OVER_SEEDS_NOTE = (
    f"Over seeds: {100 * LEVEL:g} % t-interval of the mean difference over the seeds that both "
    "sides have. Where it holds 0, another training may turn the difference around, and the runs "
    "do not differ, whatever p says."
)


def wrap_notes(notes: Sequence[str]) -> list[str]:
    """Return the lines of notes."""
    return [line for note in notes for line in textwrap.wrap(note, WIDTH)]
