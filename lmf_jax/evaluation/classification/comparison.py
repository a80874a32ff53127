"""The comparison of finished runs on one test set: metrics with intervals, and paired tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int

from lmf_jax.errors import printable
from lmf_jax.evaluation.classification.metrics import macro_f1, predicted_classes
from lmf_jax.evaluation.classification.run import FinishedRun, read_run
from lmf_jax.evaluation.classification.summary import describe_few_units
from lmf_jax.evaluation.formatting import (
    format_count,
    format_difference,
    format_interval,
    undefined_notes,
)
from lmf_jax.evaluation.permutation import SMALLEST_UNITS
from lmf_jax.evaluation.resampling import LEVEL
from lmf_jax.evaluation.run_groups import (
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
    compare_macro_f1,
    holm,
    mcnemar,
    mean_difference_over_seeds,
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
        macro_f1: the difference of macro F1 (the means over seeds), with its interval and the
            p-value of the permutation test.
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
        drawn: the independent units: "images", or "groups" where the lesion or patient of every
            image is known.
        groups: in the order of their first runs.
        pairs: all pairs of up to four groups; of more, the first against each other one.
        holm_p: for each pair the p-value of its macro F1, corrected for all of them.
        class_notes: which metrics are not available and which classes have few test images, a
            sentence each.
    """

    dataset: str
    num_images: int
    num_classes: int
    drawn: Literal["images", "groups"]
    groups: tuple[RunGroup, ...]
    pairs: tuple[GroupPair, ...]
    holm_p: tuple[float, ...]
    class_notes: tuple[str, ...] = ()


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
    dataset, test = runs.same.runs[0].dataset, runs.same.runs[0].test
    pairs = _compare_groups(runs, members)
    return Comparison(
        dataset=dataset["name"],
        num_images=len(runs.labels),
        num_classes=len(dataset["class_names"]),
        drawn="images" if runs.same.groups is None else "groups",
        groups=groups,
        pairs=pairs,
        holm_p=tuple(holm([pair.macro_f1.p_value for pair in pairs])),
        class_notes=(*undefined_notes(test), *describe_few_units(test)),
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
    correct, units = runs.predictions == runs.labels, runs.same.groups

    pairs = []
    for first, second in pairs_of_groups(len(members)):
        seeds, a, b = match_seeds(runs.same.runs, members[first], members[second])
        singles = len(members[first]) == len(members[second]) == 1
        pairs.append(
            GroupPair(
                first,
                second,
                seeds,
                macro_f1=compare_macro_f1(
                    runs.labels,
                    runs.predictions[a],
                    runs.predictions[b],
                    num_classes=num_classes,
                    groups=units,
                ),
                over_seeds=(
                    mean_difference_over_seeds(observed[a].tolist(), observed[b].tolist())
                    if len(seeds) > 1
                    else None
                ),
                mcnemar=mcnemar(correct[a[0]], correct[b[0]], units) if singles else None,
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
    units = "images" if comparison.drawn == "images" else "lesions or patients"
    notes = interval_notes(comparison.groups, "images")
    if comparison.pairs:
        pairs = f"{len(comparison.pairs)} pair{'s' if len(comparison.pairs) > 1 else ''}"
        notes.append(
            "Differences: interval over other test images, the same for both sides. Seeds that "
            "both sides have (all, if they share none) enter by their mean. p: permutation test, "
            "which exchanges the predictions of the two sides; it cannot fall below 0.05 where "
            f"they differ on fewer than {SMALLEST_UNITS} {units}. Holm p: corrected for {pairs}. "
            f"Runs differ where Holm p is below {SIGNIFICANT}. With one seed a side, this compares "
            "two trained models; another training may give another order. McNemar p: accuracy, "
            "one run against one, uncorrected."
        )
    if comparison.drawn == "images":
        notes.append(
            "All test images are taken as independent. Where several are of one lesion or patient, "
            "intervals are too narrow and p-values too small."
        )
    else:
        notes.append(
            "Lesions or patients, with all their images, are the independent units; McNemar's test "
            "is the one for such units by Yang et al. (2010)."
        )
    notes += comparison.class_notes
    if any(pair.over_seeds for pair in comparison.pairs):
        notes.append(OVER_SEEDS_NOTE)
    return wrap_notes(notes)
