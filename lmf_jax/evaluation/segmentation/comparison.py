"""The comparison of finished runs of segmentation on the same test cases."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import stats

from lmf_jax.errors import UserError, printable
from lmf_jax.evaluation.classification.summary import describe_few_units
from lmf_jax.evaluation.formatting import (
    absent_class_notes,
    format_count,
    format_difference,
    format_distance,
    format_distance_difference,
    format_interval,
)
from lmf_jax.evaluation.permutation import SMALLEST_UNITS
from lmf_jax.evaluation.resampling import LEVEL, NUM_RESAMPLES, Groups, unit_codes
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
from lmf_jax.evaluation.segmentation.run import FinishedSegmentation, read_run
from lmf_jax.evaluation.segmentation.summary import Hd95Unit, bootstrap_means, case_metrics
from lmf_jax.evaluation.statistics import (
    PairedDifference,
    SeedMean,
    compare_means,
    holm,
    mean_difference_over_seeds,
)

COLUMNS = {"dsc": "DSC", "iou": "IoU", "precision": "precision", "recall": "recall"}
"""Metrics of ``test.json`` that are compared beside the distance, and their titles in the table."""


@dataclass(frozen=True)
class SegmentationPair:
    """Two groups on the same test cases, first minus second.

    Attributes:
        first: position of a group.
        second: position of another.
        seeds: the seeds that both have; empty if they share none, and all of each are compared.
        dsc: the difference of mean DSC (the means over seeds), see :func:`compare_means`.
        hd95: that of the mean 95 % Hausdorff distance.
        wilcoxon_p: of Wilcoxon's signed-rank test on the DSC of the cases.
        over_seeds: mean difference of DSC over the shared seeds, None if they share fewer than two.
    """

    first: int
    second: int
    seeds: tuple[int, ...]
    dsc: PairedDifference
    hd95: PairedDifference
    wilcoxon_p: float
    over_seeds: SeedMean | None


@dataclass(frozen=True)
class SegmentationComparison:
    """Runs of segmentation that were tested on the same cases.

    Attributes:
        dataset: its name.
        num_cases: test cases.
        num_classes: foreground classes.
        hd95_unit: unit of the distances.
        drawn: the independent units: "cases", or "groups" where the patient or lesion of every
            case is known.
        groups: in the order of their first runs.
        pairs: all pairs of up to four groups; of more, the first against each other one.
        holm_p: for each pair the p-value of its DSC, corrected for all of them.
        wilcoxon_holm_p: the same of Wilcoxon's test.
        class_notes: which classes no test case has, and which have few; a sentence each.
    """

    dataset: str
    num_cases: int
    num_classes: int
    hd95_unit: Hd95Unit
    drawn: Literal["cases", "groups"]
    groups: tuple[RunGroup, ...]
    pairs: tuple[SegmentationPair, ...]
    holm_p: tuple[float, ...]
    wilcoxon_holm_p: tuple[float, ...]
    class_notes: tuple[str, ...] = ()


def compare_runs(run_dirs: Sequence[str | Path]) -> SegmentationComparison:
    """Compare finished runs of segmentation that were tested on the same cases.

    Args:
        run_dirs: the folders that ``train.py`` wrote, at least two.

    Returns:
        The runs in groups that differ by more than the seed, and the groups in pairs.

    Raises:
        UserError: if a folder is not that of a finished run of segmentation or is given twice, if
            there are fewer than two, or if two runs differ in their data, their split, their test
            cases or the unit of their distances.
    """
    same = read_runs(run_dirs, read_run, tested="cases")
    first = same.runs[0]
    unit = first.test["hd95_unit"]
    for run_dir, run in zip(same.run_dirs, same.runs, strict=True):
        if run.test["hd95_unit"] != unit:
            raise UserError(
                f"The run in {same.run_dirs[0]} has its hd95 in {unit} and the one in {run_dir} in "
                f"{run.test['hd95_unit']}; test one of them again."
            )
    members, groups = group_runs(same, (*COLUMNS, "hd95"))
    pairs = _compare_groups(same, members)
    return SegmentationComparison(
        dataset=first.dataset["name"],
        num_cases=len(first.ids),
        num_classes=len(first.dataset["class_names"]) - 1,
        hd95_unit=unit,
        drawn="cases" if same.groups is None else "groups",
        groups=groups,
        pairs=pairs,
        holm_p=tuple(holm([pair.dsc.p_value for pair in pairs])),
        wilcoxon_holm_p=tuple(holm([pair.wilcoxon_p for pair in pairs])),
        class_notes=(*absent_class_notes(first.test), *describe_few_units(first.test)),
    )


def signed_rank_p(difference: Float[np.ndarray, " n"], groups: Groups | None = None) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test (Wilcoxon 1945).

    Cases without a difference are left out, as Wilcoxon did.

    Args:
        difference: of two models on each case.
        groups: patient or lesion of each case, of which each enters by the mean over its cases.
            None: all cases are independent.

    Returns:
        The p-value; 1 where there is no difference at all.
    """
    units = np.unique(unit_codes(len(difference), groups), return_inverse=True)[1]
    means = np.bincount(units, difference) / np.bincount(units)
    means = np.round(means, 12)  # means of equal cases in another order differ by rounding
    means = means[means != 0]
    return float(stats.wilcoxon(means).pvalue) if len(means) else 1.0


def _compare_groups(
    same: SameTest[FinishedSegmentation], members: Sequence[Sequence[int]]
) -> tuple[SegmentationPair, ...]:
    # Of each case the means over the foreground classes, [n, runs, 2].
    values = np.stack(
        [_dsc_and_hd95(run)[order] for run, order in zip(same.runs, same.orders, strict=True)],
        axis=1,
    )
    means = values.mean(axis=0)
    samples = bootstrap_means(values, same.groups)
    pairs = []
    for first, second in pairs_of_groups(len(members)):
        seeds, a, b = match_seeds(same.runs, members[first], members[second])
        by_case = values[:, a].mean(axis=1) - values[:, b].mean(axis=1)
        resampled = samples[:, a].mean(axis=1) - samples[:, b].mean(axis=1)
        dsc, hd95 = (
            compare_means(column, resampled[:, number], groups=same.groups)
            for number, column in enumerate(by_case.T)
        )
        over_seeds = (
            mean_difference_over_seeds(means[a, 0].tolist(), means[b, 0].tolist())
            if len(seeds) > 1
            else None
        )
        pairs.append(
            SegmentationPair(
                first,
                second,
                seeds,
                dsc=dsc,
                hd95=hd95,
                wilcoxon_p=signed_rank_p(by_case[:, 0], same.groups),
                over_seeds=over_seeds,
            )
        )
    return tuple(pairs)


def _dsc_and_hd95(run: FinishedSegmentation) -> Float[np.ndarray, "n 2"]:
    metrics = case_metrics(run.counts, run.hd95)
    return np.stack([metrics[name][:, 1:].mean(axis=1) for name in ("dsc", "hd95")], axis=-1)


def format_comparison(comparison: SegmentationComparison) -> str:
    """Lay out a comparison as plain text, at most 100 columns wide.

    Args:
        comparison: from :func:`compare_runs`.

    Returns:
        The runs, a table of their metrics and one of their differences, and what the intervals and
        p-values mean; no newline at the end.
    """
    number, unit = comparison.num_classes, comparison.hd95_unit
    title = (
        f"{printable(comparison.dataset)}: {format_count(comparison.num_cases)} test cases of "
        f"{number} foreground class{'es' if number > 1 else ''}"
    )
    columns = {**COLUMNS, "hd95": f"hd95 {unit}"}
    blocks = [[title], format_runs(comparison.groups)]
    blocks.append(format_metrics(comparison.groups, columns, {"hd95": format_distance}))
    if comparison.pairs:
        blocks += [_format_dsc(comparison), _format_hd95(comparison)]
    blocks.append(_format_notes(comparison))
    return "\n\n".join("\n".join(block) for block in blocks)


def _format_dsc(comparison: SegmentationComparison) -> list[str]:
    rows = [["DSC", "difference", f"{100 * LEVEL:g} % interval", "p", "Holm p", "differs"]]
    rows[0] += ["Wilcoxon p", "Holm p", "over seeds"]
    corrected = zip(comparison.pairs, comparison.holm_p, comparison.wilcoxon_holm_p, strict=True)
    for pair, holm_p, wilcoxon_holm_p in corrected:
        seeds = pair.over_seeds
        rows.append(
            [
                f"{pair.first + 1} vs {pair.second + 1}",
                format_difference(pair.dsc.difference),
                format_interval((pair.dsc.low, pair.dsc.high)),
                format_p(pair.dsc.p_value),
                format_p(holm_p),
                "yes" if differs(holm_p, seeds) else "no",
                format_p(pair.wilcoxon_p),
                format_p(wilcoxon_holm_p),
                format_interval((seeds.low, seeds.high)) if seeds else "-",
            ]
        )
    return align_columns(rows, ">")


def _format_hd95(comparison: SegmentationComparison) -> list[str]:
    rows = [[f"hd95 {comparison.hd95_unit}", "difference", f"{100 * LEVEL:g} % interval"]]
    for pair in comparison.pairs:
        rows.append(
            [
                f"{pair.first + 1} vs {pair.second + 1}",
                format_distance_difference(pair.hd95.difference),
                format_interval((pair.hd95.low, pair.hd95.high), format_distance),
            ]
        )
    return align_columns(rows, ">")


def _format_notes(comparison: SegmentationComparison) -> list[str]:
    """Say what the intervals cover and what the p-values are."""
    units = "cases" if comparison.drawn == "cases" else "patients or lesions"
    notes = interval_notes(comparison.groups, "cases")
    if comparison.pairs:
        pairs = f"{len(comparison.pairs)} pair{'s' if len(comparison.pairs) > 1 else ''}"
        notes.append(
            f"Differences: paired bootstrap, {format_count(NUM_RESAMPLES)} resamples of the test "
            "cases, the same for both sides. Seeds that both sides have (all, if they share none) "
            "enter by their mean. p: permutation test, which exchanges the two sides of a case; it "
            f"cannot fall below 0.05 with fewer than {SMALLEST_UNITS} {units}. Holm p: corrected "
            f"for {pairs}. Runs differ where Holm p is below {SIGNIFICANT}. With one seed a side, "
            "this compares two trained models; another training may give another order. Wilcoxon "
            "p: signed ranks of the cases' DSC, whether one run is better on most cases."
        )
    if comparison.drawn == "cases":
        notes.append(
            "All test cases are taken as independent. Where several are of one patient or lesion, "
            "intervals are too narrow and p-values too small."
        )
    else:
        notes.append(
            "Patients or lesions, with all their cases, are the independent units; in Wilcoxon's "
            "test each enters by its mean."
        )
    notes += comparison.class_notes
    if any(pair.over_seeds for pair in comparison.pairs):
        notes.append(OVER_SEEDS_NOTE)
    return wrap_notes(notes)
