"""The comparison of finished runs on one test set: metrics with intervals, and paired tests."""

import dataclasses
import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from lmf_jax.config import Config
from lmf_jax.errors import UserError, printable
from lmf_jax.evaluation.finished_run import FinishedRun, read_run
from lmf_jax.evaluation.formatting import (
    format_count,
    format_fraction,
    format_interval,
    format_setting,
)
from lmf_jax.evaluation.metrics import macro_f1, predicted_classes
from lmf_jax.evaluation.resampling import LEVEL, Groups
from lmf_jax.evaluation.statistics import (
    McNemar,
    PairedDifference,
    SeedMean,
    bootstrap_macro_f1,
    holm,
    mcnemar,
    mean_difference_over_seeds,
    mean_over_seeds,
    paired_difference,
)

COLUMNS = {
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced acc.",
    "mcc": "MCC",
    "auroc": "macro AUROC",
}
"""Metrics of ``test.json`` that are compared, and their titles in the table."""

WIDTH = 100
SIGNIFICANT = 0.05
MOST_GROUPS_IN_ALL_PAIRS = 4
NUM_PAIRED_RESAMPLES = 10_000
"""More than an interval takes: Holm's correction needs p-values well below 0.05."""


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
        metrics: by their names in ``test.json``. Of one run its own, with bootstrap intervals; of
            several the means over seeds, with t-intervals. None where a metric is undefined.
    """

    name: str
    run_dirs: tuple[Path, ...]
    seeds: tuple[int, ...]
    metrics: Mapping[str, Estimate | None]


@dataclass(frozen=True)
class GroupPair:
    """Two groups on the same test images, first minus second.

    Attributes:
        first: position of a group.
        second: position of another.
        seeds: the seeds that both have; empty if they share none, and all of each are compared.
        macro_f1: the difference of macro F1 (the means over seeds), by the paired bootstrap.
        over_seeds: mean difference over the shared seeds, None if they share fewer than two.
        mcnemar: test of equal accuracy, None where a side has several runs.
    """

    first: int
    second: int
    seeds: tuple[int, ...]
    macro_f1: PairedDifference
    over_seeds: SeedMean | None
    mcnemar: McNemar | None


@dataclass(frozen=True)
class Comparison:
    """Runs that were tested on the same images.

    Attributes:
        dataset: its name.
        num_images: test images.
        num_classes: classes.
        drawn: what the resamples of the differences are drawn of: "images", or "groups" where the
            lesion or patient of every image is known.
        groups: in the order of their first runs.
        pairs: all pairs of up to four groups; of more, the first against each other one.
        holm_p: for each pair the p-value of its macro F1, corrected for all of them.
    """

    dataset: str
    num_images: int
    num_classes: int
    drawn: Literal["images", "groups"]
    groups: tuple[RunGroup, ...]
    pairs: tuple[GroupPair, ...]
    holm_p: tuple[float, ...]


@dataclass(frozen=True)
class _Runs:
    """The runs as read, their predictions in one order of the images."""

    run_dirs: Sequence[Path]
    runs: Sequence[FinishedRun]
    labels: Int[np.ndarray, " n"]
    predictions: Int[np.ndarray, "runs n"]
    groups: Groups | None


def compare_runs(run_dirs: Sequence[str | Path]) -> Comparison:
    """Compare finished runs that were tested on the same images.

    Args:
        run_dirs: the folders that ``train.py`` wrote, at least two.

    Returns:
        The runs in groups that differ by more than the seed, and the groups in pairs.

    Raises:
        UserError: if a folder is not that of a finished run or is given twice, if there are fewer
            than two, or if two runs differ in their data, their split or their test images.
    """
    runs = _read_runs([Path(run_dir) for run_dir in run_dirs])
    members = _group(runs.runs)
    dataset = runs.runs[0].dataset
    pairs = _compare_groups(runs, members)
    return Comparison(
        dataset=dataset["name"],
        num_images=len(runs.labels),
        num_classes=len(dataset["class_names"]),
        drawn="images" if runs.groups is None else "groups",
        groups=tuple(
            RunGroup(
                name=name,
                run_dirs=tuple(runs.run_dirs[number] for number in numbers),
                seeds=tuple(_seed(runs.runs[number]) for number in numbers),
                metrics={
                    metric: _estimate([runs.runs[number] for number in numbers], metric)
                    for metric in COLUMNS
                },
            )
            for name, numbers in zip(_names(runs, members), members, strict=True)
        ),
        pairs=pairs,
        holm_p=tuple(holm([pair.macro_f1.p_value for pair in pairs])),
    )


def _read_runs(run_dirs: Sequence[Path]) -> _Runs:
    if len(run_dirs) < 2:
        raise UserError("A comparison needs the folders of at least two runs.")
    resolved = [run_dir.resolve() for run_dir in run_dirs]
    for number, run_dir in enumerate(run_dirs):
        if resolved[number] in resolved[:number]:
            raise UserError(f"The run in {run_dir} is given twice; give each run once.")
    runs = [read_run(run_dir) for run_dir in run_dirs]
    orders = [np.argsort(run.ids, kind="stable") for run in runs]
    for run_dir, run, order in zip(run_dirs[1:], runs[1:], orders[1:], strict=True):
        if run.dataset["fingerprint"] != runs[0].dataset["fingerprint"]:
            raise UserError(
                f"The runs in {run_dirs[0]} and {run_dir} saw different images, labels or splits; "
                "compare runs of one dataset and one split."
            )
        if not np.array_equal(run.ids[order], runs[0].ids[orders[0]]):
            raise UserError(
                f"The runs in {run_dirs[0]} and {run_dir} were tested on different images; compare "
                "runs that were tested on the same ones."
            )
    predictions = [
        predicted_classes(run.logits)[order] for run, order in zip(runs, orders, strict=True)
    ]
    known = [
        run.groups[order] for run, order in zip(runs, orders, strict=True) if run.groups is not None
    ]
    return _Runs(
        run_dirs=run_dirs,
        runs=runs,
        labels=runs[0].labels[orders[0]].astype(int),
        predictions=np.stack(predictions),
        groups=known[0] if known else None,
    )


def _group(runs: Sequence[FinishedRun]) -> list[list[int]]:
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


def _settings(run: FinishedRun) -> dict[str, Any]:
    """Return what a result depends on but for the seed, and not where and how the run ran."""
    passed_over = {"seed"} | {
        field.name for field in dataclasses.fields(Config) if field.metadata.get("run_only")
    }
    return {name: value for name, value in run.config.items() if name not in passed_over}


def _seed(run: FinishedRun) -> int:
    return int(run.config["seed"])


def _names(runs: _Runs, members: Sequence[Sequence[int]]) -> list[str]:
    """Name each group by the settings in which the groups differ, or else by its first folder."""
    settings = [_settings(runs.runs[numbers[0]]) for numbers in members]
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
        name if name and names.count(name) == 1 else runs.run_dirs[numbers[0]].name
        for name, numbers in zip(names, members, strict=True)
    ]


def _estimate(runs: Sequence[FinishedRun], metric: str) -> Estimate | None:
    values = [run.test[metric] for run in runs]
    if None in values:
        return None
    if len(runs) == 1:
        return Estimate(values[0], *runs[0].test["intervals"][metric])
    over_seeds = mean_over_seeds(values)
    return Estimate(over_seeds.mean, over_seeds.low, over_seeds.high)


def _compare_groups(runs: _Runs, members: Sequence[Sequence[int]]) -> tuple[GroupPair, ...]:
    num_classes = len(runs.runs[0].dataset["class_names"])
    observed = macro_f1(runs.labels, runs.predictions, num_classes=num_classes)
    samples = bootstrap_macro_f1(
        runs.labels,
        runs.predictions,
        num_classes=num_classes,
        groups=runs.groups,
        num_resamples=NUM_PAIRED_RESAMPLES,
    )
    correct = runs.predictions == runs.labels

    positions = list(combinations(range(len(members)), 2))
    if len(members) > MOST_GROUPS_IN_ALL_PAIRS:
        positions = [pair for pair in positions if pair[0] == 0]
    pairs = []
    for first, second in positions:
        seeds, a, b = _match_seeds(runs.runs, members[first], members[second])
        singles = len(members[first]) == len(members[second]) == 1
        differences = samples[:, a].mean(axis=1) - samples[:, b].mean(axis=1)
        pairs.append(
            GroupPair(
                first,
                second,
                seeds,
                macro_f1=paired_difference(observed[a].mean() - observed[b].mean(), differences),
                over_seeds=(
                    mean_difference_over_seeds(observed[a].tolist(), observed[b].tolist())
                    if len(seeds) > 1
                    else None
                ),
                mcnemar=mcnemar(correct[a[0]], correct[b[0]], runs.groups) if singles else None,
            )
        )
    return tuple(pairs)


def _match_seeds(
    runs: Sequence[FinishedRun], first: Sequence[int], second: Sequence[int]
) -> tuple[tuple[int, ...], list[int], list[int]]:
    """Return the seeds that two groups share and their runs; without any, all runs of both."""
    a, b = ({_seed(runs[number]): number for number in side} for side in (first, second))
    shared = tuple(seed for seed in a if seed in b)
    return shared, [a[seed] for seed in shared or a], [b[seed] for seed in shared or b]


def format_comparison(comparison: Comparison) -> str:
    """Lay out a comparison as plain text, at most 100 columns wide.

    Args:
        comparison: from :func:`compare_runs`.

    Returns:
        The runs, a table of their metrics and one of their differences, and what the intervals and
        p-values mean; no newline at the end.
    """
    title = (
        f"{printable(comparison.dataset)}: {format_count(comparison.num_images)} test images of "
        f"{comparison.num_classes} classes"
    )
    blocks = [[title], _format_runs(comparison.groups), _format_metrics(comparison.groups)]
    if comparison.pairs:
        blocks.append(_format_pairs(comparison))
    blocks.append(_format_notes(comparison))
    return "\n\n".join("\n".join(block) for block in blocks)


def _format_runs(groups: Sequence[RunGroup]) -> list[str]:
    lines = []
    for number, group in enumerate(groups, start=1):
        folders = ", ".join(str(run_dir) for run_dir in group.run_dirs)
        text = f"{number}  {group.name}, {_format_seeds(group.seeds)}: {folders}"
        lines += textwrap.wrap(text, WIDTH, subsequent_indent="   ", break_on_hyphens=False)
    return lines


def _format_seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _format_metrics(groups: Sequence[RunGroup]) -> list[str]:
    rows = [["", "", *COLUMNS.values()]]
    for number, group in enumerate(groups, start=1):
        metrics = [group.metrics[name] for name in COLUMNS]
        values = [format_fraction(metric.value) if metric else "-" for metric in metrics]
        ends = [format_interval((metric.low, metric.high)) if metric else "" for metric in metrics]
        rows += [[str(number), group.name, *values], ["", _format_seeds(group.seeds), *ends]]
    return _align(rows, "<")


def _format_pairs(comparison: Comparison) -> list[str]:
    rows = [["macro F1", "difference", f"{100 * LEVEL:g} % interval", "p", "Holm p", "differs"]]
    rows[0] += ["McNemar p", "over seeds"]
    for pair, holm_p in zip(comparison.pairs, comparison.holm_p, strict=True):
        rows.append(
            [
                f"{pair.first + 1} vs {pair.second + 1}",
                f"{pair.macro_f1.difference:+.3f}",
                format_interval((pair.macro_f1.low, pair.macro_f1.high)),
                _format_p(pair.macro_f1.p_value),
                _format_p(holm_p),
                "yes" if _holds(pair, holm_p) else "no",
                _format_p(pair.mcnemar.p_value) if pair.mcnemar else "-",
                format_interval((pair.over_seeds.low, pair.over_seeds.high))
                if pair.over_seeds
                else "-",
            ]
        )
    return _align(rows, ">")


def _holds(pair: GroupPair, holm_p: float) -> bool:
    """Whether a difference would hold on other images, and for other seeds where there are such."""
    seeds = pair.over_seeds
    return holm_p < SIGNIFICANT and (seeds is None or seeds.low * seeds.high > 0)


def _format_p(value: float) -> str:
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"


def _align(rows: Sequence[Sequence[str]], side: str) -> list[str]:
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


def _format_notes(comparison: Comparison) -> list[str]:
    """Say what the intervals cover and what the p-values are."""
    percent = f"{100 * LEVEL:g} %"
    notes = []
    if any(len(group.seeds) == 1 for group in comparison.groups):
        notes.append(
            f"[ ] of one run: {percent} interval over resamples of the test images, stratified by "
            "class. It covers which images were tested, not the training seed."
        )
    if any(len(group.seeds) > 1 for group in comparison.groups):
        notes.append(
            f"[ ] of several seeds: {percent} t-interval of their mean. It covers the training "
            "seed, on these test images."
        )
    if comparison.pairs:
        notes.append(
            f"Differences: paired bootstrap with {format_count(NUM_PAIRED_RESAMPLES)} resamples of "
            "the test images, the same for all runs; seeds that both sides have (all, if none is "
            "shared) enter by their mean. Holm p is corrected "
            f"for {len(comparison.pairs)} pair{'s' if len(comparison.pairs) > 1 else ''}. Runs "
            f"differ below {SIGNIFICANT}; of one seed, these two models do, and another training "
            "may not. McNemar p is of accuracy, one run against one, uncorrected."
        )
    if comparison.drawn == "images":
        notes.append(
            "All of it takes the test images for independent. Where several are of one lesion or "
            "patient, intervals and p-values are too small."
        )
    else:
        notes.append(
            "Resamples draw lesions or patients with all their images; McNemar's test, as modified "
            "by Yang et al. (2010), takes those of one together."
        )
    if any(pair.over_seeds for pair in comparison.pairs):
        notes.append(
            f"Over seeds: {percent} t-interval of the mean difference over the seeds that both "
            "sides have. Where it holds 0, another training may turn the difference around, and "
            "the runs do not differ, whatever p says."
        )
    return [line for note in notes for line in textwrap.wrap(note, WIDTH)]
