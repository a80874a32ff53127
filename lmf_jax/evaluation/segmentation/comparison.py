"""Comparison of segmentation runs on the same test cases: intervals and paired tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy import stats

from lmf_jax.errors import UserError
from lmf_jax.evaluation.comparison import (
    SEEDS_NOTE,
    RunComparison,
    format_blocks,
    format_main_differences,
    format_other_differences,
    format_p,
    holm_note,
    interval_notes,
    unit_note,
)
from lmf_jax.evaluation.formatting import (
    format_count,
    format_distance,
    format_distance_difference,
)
from lmf_jax.evaluation.permutation import SMALLEST_UNITS
from lmf_jax.evaluation.resampling import NUM_RESAMPLES, Groups, unit_codes
from lmf_jax.evaluation.run_groups import (
    ComparableRuns,
    GroupPair,
    group_runs,
    pair_groups,
    read_runs,
)
from lmf_jax.evaluation.segmentation.run import FinishedSegmentation, read_run
from lmf_jax.evaluation.segmentation.summary import (
    Hd95Unit,
    bootstrap_means,
    case_metrics,
    class_notes,
)
from lmf_jax.evaluation.statistics import PairedDifference, compare_means, holm
from lmf_jax.evaluation.summary import unit_name

EXAMPLES = "cases"
COLUMNS = {"dsc": "DSC", "iou": "IoU", "precision": "precision", "recall": "recall"}
"""Metrics of ``test.json`` that are compared besides the distance, and their titles."""


@dataclass(frozen=True, kw_only=True)
class SegmentationPair(GroupPair):
    """Two groups on the same test cases, first minus second.

    Attributes:
        dsc: Difference of mean DSC (the means over seeds), see :func:`compare_means`.
        hd95: Difference of the mean 95 % Hausdorff distance.
        wilcoxon_p: P-value of Wilcoxon's signed-rank test on the DSC of the cases.
    """

    dsc: PairedDifference
    hd95: PairedDifference
    wilcoxon_p: float


@dataclass(frozen=True, kw_only=True)
class SegmentationComparison(RunComparison[SegmentationPair]):
    """Comparison of runs that were tested on the same cases; ``holm_p`` is that of the DSC.

    Attributes:
        num_cases: Number of test cases.
        hd95_unit: Unit of the distances.
        wilcoxon_holm_p: P-value of each pair's Wilcoxon test, corrected for all pairs.
    """

    num_cases: int
    hd95_unit: Hd95Unit
    wilcoxon_holm_p: tuple[float, ...]


def compare_runs(run_dirs: Sequence[str | Path]) -> SegmentationComparison:
    """Compare finished segmentation runs that were tested on the same cases.

    Args:
        run_dirs: The folders that ``train.py`` wrote, at least two.

    Returns:
        The runs in groups that differ in more than the seed, and the groups in pairs.

    Raises:
        UserError: If a folder has no finished run of this task or is repeated, if there are fewer
            than two, or if two runs differ in their data, their split, their test cases or the unit
            of their distances.
    """
    comparable = read_runs(run_dirs, read_run, EXAMPLES)
    _check_units(comparable)
    members, run_groups = group_runs(comparable, (*COLUMNS, "hd95"))
    pairs = _compare_groups(comparable, members)
    first = comparable.runs[0]
    return SegmentationComparison(
        dataset=first.dataset["name"],
        num_cases=len(first.ids),
        num_classes=len(first.dataset["class_names"]) - 1,
        hd95_unit=first.test["hd95_unit"],
        drawn=EXAMPLES if comparable.groups is None else "groups",
        run_groups=run_groups,
        pairs=pairs,
        holm_p=tuple(holm([pair.dsc.p_value for pair in pairs])),
        wilcoxon_holm_p=tuple(holm([pair.wilcoxon_p for pair in pairs])),
        class_notes=tuple(class_notes(first.test)),
    )


def _check_units(comparable: ComparableRuns[FinishedSegmentation]) -> None:
    units = [run.test["hd95_unit"] for run in comparable.runs]
    for run_dir, unit in zip(comparable.run_dirs, units, strict=True):
        if unit != units[0]:
            raise UserError(
                f"The hd95 of the run in {comparable.run_dirs[0]} is in {units[0]} and that of "
                f"{run_dir} in {unit}; test one of them again."
            )


def signed_rank_p(difference: Float[np.ndarray, " n"], groups: Groups | None = None) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test (Wilcoxon 1945).

    Cases without a difference are left out, as by Wilcoxon.

    Args:
        difference: Difference of two models on each case.
        groups: Lesion or patient of each case, which enters by the mean over its cases; None if all
            cases are independent.

    Returns:
        The p-value; 1 if there is no difference at all.
    """
    units = np.unique(unit_codes(len(difference), groups), return_inverse=True)[1]
    means = np.bincount(units, difference) / np.bincount(units)
    means = np.round(means, 12)  # The order of the cases changes the rounding of the means.
    means = means[means != 0]
    return float(stats.wilcoxon(means).pvalue) if len(means) else 1.0


def _compare_groups(
    comparable: ComparableRuns[FinishedSegmentation], members: Sequence[Sequence[int]]
) -> tuple[SegmentationPair, ...]:
    runs, orders, groups = comparable.runs, comparable.orders, comparable.groups
    values = np.stack(  # Foreground means of each case, [n, runs, 2].
        [_dsc_and_hd95(run)[order] for run, order in zip(runs, orders, strict=True)], axis=1
    )
    samples = bootstrap_means(values, groups)
    pairs = []
    for pair, a, b in pair_groups(runs, members, values[..., 0].mean(axis=0)):
        by_case = values[:, a].mean(axis=1) - values[:, b].mean(axis=1)
        resampled = samples[:, a].mean(axis=1) - samples[:, b].mean(axis=1)
        dsc, hd95 = (
            compare_means(by_case[:, column], resampled[:, column], groups=groups)
            for column in (0, 1)
        )
        wilcoxon_p = signed_rank_p(by_case[:, 0], groups)
        pairs.append(SegmentationPair(**vars(pair), dsc=dsc, hd95=hd95, wilcoxon_p=wilcoxon_p))
    return tuple(pairs)


def _dsc_and_hd95(run: FinishedSegmentation) -> Float[np.ndarray, "n 2"]:
    metrics = case_metrics(run.counts, run.hd95)
    return np.stack([metrics[name][:, 1:].mean(axis=1) for name in ("dsc", "hd95")], axis=-1)


def format_comparison(comparison: SegmentationComparison) -> str:
    """Format a comparison as plain text, at most 100 columns wide.

    Args:
        comparison: Output of :func:`compare_runs`.

    Returns:
        The runs, a table of their metrics, tables of their differences, and notes on intervals and
        p-values; no newline at the end.
    """
    pairs, num_classes = comparison.pairs, comparison.num_classes
    hd95_title = f"hd95 {comparison.hd95_unit}"
    title = (
        f"{format_count(comparison.num_cases)} test cases of {num_classes} foreground "
        f"class{'es' if num_classes > 1 else ''}"
    )
    wilcoxon = {
        "Wilcoxon p": [format_p(pair.wilcoxon_p) for pair in pairs],
        "Holm p": [format_p(p) for p in comparison.wilcoxon_holm_p],
    }
    tables = [
        format_main_differences(comparison, "DSC", [pair.dsc for pair in pairs], wilcoxon),
        format_other_differences(
            comparison,
            hd95_title,
            [pair.hd95 for pair in pairs],
            format_distance_difference,
            format_distance,
        ),
    ]
    columns, formats = {**COLUMNS, "hd95": hd95_title}, {"hd95": format_distance}
    return format_blocks(comparison, title, columns, tables, _notes(comparison), formats)


def _notes(comparison: SegmentationComparison) -> list[str]:
    """Explain what the intervals cover and what the p-values are."""
    notes = interval_notes(comparison.run_groups, EXAMPLES)
    if comparison.pairs:
        notes.append(
            f"Differences: paired bootstrap, {format_count(NUM_RESAMPLES)} resamples of the test "
            f"cases, the same for both sides. {SEEDS_NOTE} p: permutation test, which exchanges "
            f"the two sides of a case; it cannot fall below 0.05 with fewer than {SMALLEST_UNITS} "
            f"{unit_name(comparison.drawn)}. {holm_note(len(comparison.pairs))} Wilcoxon p: signed "
            "ranks of the cases' DSC, whether one run is better on most cases."
        )
    return [
        *notes,
        unit_note(EXAMPLES, comparison.drawn, "in Wilcoxon's test each enters by its mean"),
    ]
