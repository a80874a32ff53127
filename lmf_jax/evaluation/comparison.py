"""The comparison of finished runs on one test set: metrics with intervals, and paired tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int

from lmf_jax.errors import printable
from lmf_jax.evaluation.finished_run import FinishedRun, read_run
from lmf_jax.evaluation.formatting import (
    format_count,
    format_difference,
    format_interval,
    undefined_notes,
)
from lmf_jax.evaluation.metrics import macro_f1, predicted_classes
from lmf_jax.evaluation.resampling import LEVEL
from lmf_jax.evaluation.run_groups import (
    NUM_PAIRED_RESAMPLES,
    OVER_SEEDS_NOTE,
    SIGNIFICANT,
    RunGroup,
    SameTest,
    align_columns,
    differs,
    format_metrics,
    format_p,
    format_runs,
    group_runs,
    interval_notes,
    match_seeds,
    pairs_of_groups,
    read_runs,
    wrap_notes,
)
from lmf_jax.evaluation.statistics import (
    McNemar,
    PairedDifference,
    SeedMean,
    bootstrap_macro_f1,
    holm,
    mcnemar,
    mean_difference_over_seeds,
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
        undefined: why metrics are not available, or classes have none; a sentence each.
    """

    dataset: str
    num_images: int
    num_classes: int
    drawn: Literal["images", "groups"]
    groups: tuple[RunGroup, ...]
    pairs: tuple[GroupPair, ...]
    holm_p: tuple[float, ...]
    undefined: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Runs:
    """The runs as read, their predictions in one order of the images."""

    same: SameTest[FinishedRun]
    labels: Int[np.ndarray, " n"]
    predictions: Int[np.ndarray, "runs n"]


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
    runs = _read_runs(run_dirs)
    members, groups = group_runs(runs.same, COLUMNS)
    dataset = runs.same.runs[0].dataset
    pairs = _compare_groups(runs, members)
    return Comparison(
        dataset=dataset["name"],
        num_images=len(runs.labels),
        num_classes=len(dataset["class_names"]),
        drawn="images" if runs.same.groups is None else "groups",
        groups=groups,
        pairs=pairs,
        holm_p=tuple(holm([pair.macro_f1.p_value for pair in pairs])),
        undefined=tuple(undefined_notes(runs.same.runs[0].test)),
    )


def _read_runs(run_dirs: Sequence[str | Path]) -> _Runs:
    same = read_runs(run_dirs, read_run)
    predictions = [
        predicted_classes(run.logits)[order]
        for run, order in zip(same.runs, same.orders, strict=True)
    ]
    labels = same.runs[0].labels[same.orders[0]].astype(int)
    return _Runs(same, labels, np.stack(predictions))


def _compare_groups(runs: _Runs, members: Sequence[Sequence[int]]) -> tuple[GroupPair, ...]:
    num_classes = len(runs.same.runs[0].dataset["class_names"])
    observed = macro_f1(runs.labels, runs.predictions, num_classes=num_classes)
    samples = bootstrap_macro_f1(
        runs.labels,
        runs.predictions,
        num_classes=num_classes,
        groups=runs.same.groups,
        num_resamples=NUM_PAIRED_RESAMPLES,
    )
    correct, drawn = runs.predictions == runs.labels, runs.same.groups

    pairs = []
    for first, second in pairs_of_groups(len(members)):
        seeds, a, b = match_seeds(runs.same.runs, members[first], members[second])
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
                mcnemar=mcnemar(correct[a[0]], correct[b[0]], drawn) if singles else None,
            )
        )
    return tuple(pairs)


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
    blocks = [[title], format_runs(comparison.groups)]
    blocks.append(format_metrics(comparison.groups, COLUMNS))
    if comparison.pairs:
        blocks.append(_format_pairs(comparison))
    blocks.append(_format_notes(comparison))
    return "\n\n".join("\n".join(block) for block in blocks)


def _format_pairs(comparison: Comparison) -> list[str]:
    rows = [["macro F1", "difference", f"{100 * LEVEL:g} % interval", "p", "Holm p", "differs"]]
    rows[0] += ["McNemar p", "over seeds"]
    for pair, holm_p in zip(comparison.pairs, comparison.holm_p, strict=True):
        rows.append(
            [
                f"{pair.first + 1} vs {pair.second + 1}",
                format_difference(pair.macro_f1.difference),
                format_interval((pair.macro_f1.low, pair.macro_f1.high)),
                format_p(pair.macro_f1.p_value),
                format_p(holm_p),
                "yes" if differs(holm_p, pair.over_seeds) else "no",
                format_p(pair.mcnemar.p_value) if pair.mcnemar else "-",
                format_interval((pair.over_seeds.low, pair.over_seeds.high))
                if pair.over_seeds
                else "-",
            ]
        )
    return align_columns(rows, ">")


def _format_notes(comparison: Comparison) -> list[str]:
    """Say what the intervals cover and what the p-values are."""
    notes = interval_notes(comparison.groups, "images", "the test images, stratified by class")
    notes += comparison.undefined
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
        notes.append(OVER_SEEDS_NOTE)
    return wrap_notes(notes)
