"""Comparison of multi-label runs on the same test images: intervals and paired tests of mAP."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmf_jax.errors import UserError
from lmf_jax.evaluation.comparison import (
    SEEDS_NOTE,
    RunComparison,
    format_blocks,
    format_main_differences,
    holm_note,
    interval_notes,
    unit_note,
)
from lmf_jax.evaluation.formatting import format_count
from lmf_jax.evaluation.multilabel.report import label_notes
from lmf_jax.evaluation.multilabel.run import FinishedMultilabel, read_run
from lmf_jax.evaluation.multilabel.scores import score_labels
from lmf_jax.evaluation.multilabel.statistics import compare_mean_average_precision, mean_difference
from lmf_jax.evaluation.run_groups import (
    ComparableRuns,
    GroupPair,
    group_runs,
    pair_groups,
    read_runs,
    shared_labels,
)
from lmf_jax.evaluation.statistics import PairedDifference, holm

EXAMPLES = "images"
COLUMNS = {"mean_average_precision": "mAP", "mean_auroc": "macro AUROC"}
"""Metrics of ``test.json`` that are compared, and their titles in the table."""


@dataclass(frozen=True, kw_only=True)
class MultilabelPair(GroupPair):
    """Two groups on the same test images, first minus second.

    Attributes:
        mean_average_precision: Difference of mAP (the means over seeds) with its interval and
            p-value.
    """

    mean_average_precision: PairedDifference


@dataclass(frozen=True, kw_only=True)
class MultilabelComparison(RunComparison[MultilabelPair]):
    """Comparison of runs that were tested on the same images; ``holm_p`` is that of mAP.

    Attributes:
        num_images: Number of test images.
    """

    num_images: int


def compare_runs(run_dirs: Sequence[str | Path]) -> MultilabelComparison:
    """Compare multi-label runs that were tested on the same images.

    Args:
        run_dirs: The folders of two or more runs.

    Raises:
        UserError: If a run is missing or broken, or the runs differ in their test images.
    """
    comparable = read_runs(run_dirs, read_run, EXAMPLES)
    members, run_groups = group_runs(comparable, COLUMNS)
    pairs = _compare_groups(comparable, members)
    first = comparable.runs[0]
    return MultilabelComparison(
        dataset=first.dataset["name"],
        num_images=len(first.ids),
        num_classes=len(first.dataset["class_names"]),
        drawn=EXAMPLES if comparable.groups is None else "groups",
        run_groups=run_groups,
        pairs=pairs,
        holm_p=tuple(holm([pair.mean_average_precision.p_value for pair in pairs])),
        class_notes=tuple(label_notes(first.test)),
    )


def _compare_groups(
    comparable: ComparableRuns[FinishedMultilabel], members: Sequence[Sequence[int]]
) -> tuple[MultilabelPair, ...]:
    runs, orders, groups = comparable.runs, comparable.orders, comparable.groups
    labels = shared_labels(comparable)
    logits = [run.logits[order] for run, order in zip(runs, orders, strict=True)]
    scores = np.array([score_labels(labels, x).mean_average_precision for x in logits])
    if np.isnan(scores).any():
        raise UserError(
            f"The test images of {comparable.run_dirs[0]} have no label that some of them have and "
            "some have not, so there is no mAP to compare."
        )
    pairs = []
    for pair, a, b in pair_groups(runs, members, scores):
        differences = [
            compare_mean_average_precision(labels, logits[i], logits[j], groups=groups)
            for i, j in zip(*_paired(a, b), strict=True)
        ]
        pairs.append(
            MultilabelPair(**vars(pair), mean_average_precision=mean_difference(differences))
        )
    return tuple(pairs)


def _paired(first: Sequence[int], second: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the runs of two sides by pairs; the shorter side is repeated."""
    count = max(len(first), len(second))
    sides = [[side[i % len(side)] for i in range(count)] for side in (first, second)]
    return sides[0], sides[1]


def format_comparison(comparison: MultilabelComparison) -> str:
    """Format a comparison as plain text, at most 100 columns wide.

    Args:
        comparison: Output of :func:`compare_runs`.

    Returns:
        The runs, a table of their metrics, a table of their differences, and notes on intervals and
        p-values; no newline at the end.
    """
    title = (
        f"{format_count(comparison.num_images)} test images with {comparison.num_classes} labels"
    )
    table = format_main_differences(
        comparison, "mAP", [pair.mean_average_precision for pair in comparison.pairs], {}
    )
    return format_blocks(comparison, title, COLUMNS, [table], _notes(comparison))


def _notes(comparison: MultilabelComparison) -> list[str]:
    """Explain what the intervals cover and what the p-values are."""
    notes = interval_notes(comparison.run_groups, EXAMPLES)
    if comparison.pairs:
        notes.append(
            "Differences: bootstrap interval for the choice of test images, which both sides "
            f"share. {SEEDS_NOTE} With several seeds, the ends of the interval are the means over "
            "the seeds, and p is the largest of them. p: permutation test, which exchanges the "
            f"ranks of the two sides. {holm_note(len(comparison.pairs))}"
        )
    return [*notes, unit_note(EXAMPLES, comparison.drawn, "the test exchanges whole units")]
