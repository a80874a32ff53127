"""Comparison of classification runs on the same test images: intervals and paired tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmf_jax.evaluation.classification.metrics import macro_f1, predicted_classes
from lmf_jax.evaluation.classification.run import FinishedRun, read_run
from lmf_jax.evaluation.classification.summary import class_notes
from lmf_jax.evaluation.comparison import (
    SEEDS_NOTE,
    RunComparison,
    format_blocks,
    format_main_differences,
    format_p,
    holm_note,
    interval_notes,
    unit_note,
)
from lmf_jax.evaluation.formatting import format_count
from lmf_jax.evaluation.permutation import SMALLEST_UNITS
from lmf_jax.evaluation.run_groups import (
    ComparableRuns,
    GroupPair,
    group_runs,
    pair_groups,
    read_runs,
    shared_labels,
)
from lmf_jax.evaluation.statistics import (
    McNemar,
    PairedDifference,
    compare_macro_f1,
    holm,
    mcnemar,
)
from lmf_jax.evaluation.summary import unit_name

EXAMPLES = "images"
COLUMNS = {
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced acc.",
    "mcc": "MCC",
    "auroc": "macro AUROC",
}
"""Metrics of ``test.json`` that are compared, and their titles in the table."""


@dataclass(frozen=True, kw_only=True)
class ClassificationPair(GroupPair):
    """Two groups on the same test images, first minus second.

    Attributes:
        macro_f1: Difference of macro F1 (the means over seeds) with its interval and the p-value of
            the permutation test.
        mcnemar: Test of equal accuracy; None if a side has several runs.
    """

    macro_f1: PairedDifference
    mcnemar: McNemar | None


@dataclass(frozen=True, kw_only=True)
class Comparison(RunComparison[ClassificationPair]):
    """Comparison of runs that were tested on the same images; ``holm_p`` is that of macro F1.

    Attributes:
        num_images: Number of test images.
    """

    num_images: int


def compare_runs(run_dirs: Sequence[str | Path]) -> Comparison:
    """Compare finished classification runs that were tested on the same images.

    Args:
        run_dirs: The folders that ``train.py`` wrote, at least two.

    Returns:
        The runs, grouped by equal settings apart from the seed, and the comparisons of the groups.

    Raises:
        UserError: If a folder has no finished run of this task or is repeated, if there are fewer
            than two, or if two runs differ in their data, their split or their test images.
    """
    comparable = read_runs(run_dirs, read_run, EXAMPLES)
    members, run_groups = group_runs(comparable, COLUMNS)
    pairs = _compare_groups(comparable, members)
    first = comparable.runs[0]
    return Comparison(
        dataset=first.dataset["name"],
        num_images=len(first.ids),
        num_classes=len(first.dataset["class_names"]),
        drawn=EXAMPLES if comparable.groups is None else "groups",
        run_groups=run_groups,
        pairs=pairs,
        holm_p=tuple(holm([pair.macro_f1.p_value for pair in pairs])),
        class_notes=tuple(class_notes(first.test)),
    )


def _compare_groups(
    comparable: ComparableRuns[FinishedRun], members: Sequence[Sequence[int]]
) -> tuple[ClassificationPair, ...]:
    runs, orders, groups = comparable.runs, comparable.orders, comparable.groups
    labels = shared_labels(comparable).astype(int)
    predictions = np.stack(
        [predicted_classes(run.logits)[order] for run, order in zip(runs, orders, strict=True)]
    )
    num_classes = len(runs[0].dataset["class_names"])
    scores = macro_f1(labels, predictions, num_classes=num_classes)
    correct = predictions == labels

    pairs = []
    for pair, a, b in pair_groups(runs, members, scores):
        is_single = len(members[pair.first]) == len(members[pair.second]) == 1
        difference = compare_macro_f1(
            labels, predictions[a], predictions[b], num_classes=num_classes, groups=groups
        )
        pairs.append(
            ClassificationPair(
                **vars(pair),
                macro_f1=difference,
                mcnemar=mcnemar(correct[a[0]], correct[b[0]], groups) if is_single else None,
            )
        )
    return tuple(pairs)


def format_comparison(comparison: Comparison) -> str:
    """Format a comparison as plain text, at most 100 columns wide.

    Args:
        comparison: Output of :func:`compare_runs`.

    Returns:
        The runs, a table of their metrics, a table of their differences, and notes on intervals and
        p-values; no newline at the end.
    """
    title = f"{format_count(comparison.num_images)} test images of {comparison.num_classes} classes"
    tests = [pair.mcnemar for pair in comparison.pairs]
    table = format_main_differences(
        comparison,
        "macro F1",
        [pair.macro_f1 for pair in comparison.pairs],
        {"McNemar p": [format_p(test.p_value) if test else "-" for test in tests]},
    )
    return format_blocks(comparison, title, COLUMNS, [table], _notes(comparison))


def _notes(comparison: Comparison) -> list[str]:
    """Explain what the intervals cover and what the p-values are."""
    notes = interval_notes(comparison.run_groups, EXAMPLES)
    if comparison.pairs:
        notes.append(
            f"Differences: interval for the choice of test images, which both sides share. "
            f"{SEEDS_NOTE} p: permutation test, which exchanges the predictions of the two sides; "
            f"p cannot be below 0.05 if the two sides differ on fewer than {SMALLEST_UNITS} "
            f"{unit_name(comparison.drawn)}. {holm_note(len(comparison.pairs))} McNemar p: "
            "accuracy, one run against one, uncorrected."
        )
    mcnemar_note = "McNemar's test is the version of Yang et al. (2010) for grouped images"
    return [*notes, unit_note(EXAMPLES, comparison.drawn, mcnemar_note)]
