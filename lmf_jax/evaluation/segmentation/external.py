"""Tests of a segmentation run on other datasets."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from lmf_jax.errors import printable
from lmf_jax.evaluation.external import (
    ExternalTest,
    check_change,
    read_tests,
    write_record,
)
from lmf_jax.evaluation.formatting import format_difference, format_fraction, format_interval
from lmf_jax.evaluation.resampling import (
    LEVEL,
    Groups,
    expanded_level,
    num_units,
    percentile_interval,
)
from lmf_jax.evaluation.segmentation.metrics import overlap_metrics
from lmf_jax.evaluation.segmentation.run import CaseResults, FinishedSegmentation, read_tested
from lmf_jax.evaluation.segmentation.subgroups import (
    SUBGROUP_METRICS,
    summarize_case_subgroups,
)
from lmf_jax.evaluation.segmentation.summary import bootstrap_means, true_sizes
from lmf_jax.evaluation.subgroup_results import write_subgroups
from lmf_jax.runs.files import check, is_number, require


def write_comparison(
    folder: Path,
    run: FinishedSegmentation,
    tested: CaseResults,
    test: Mapping[str, Any],
    facts: Mapping[str, Any],
    metadata: Mapping[str, Shaped[np.ndarray, " n"]] | None = None,
) -> ExternalTest:
    """Compare an external test with the test of the run, and write ``external.json``.

    With metadata, ``subgroups.json`` is written as well.

    Args:
        folder: The folder ``external/<name>`` of the run, with ``cases.npz`` and ``test.json``.
        run: The contents of the run folder.
        tested: The cases of the other dataset.
        test: The contents of its ``test.json``.
        facts: Description of the other dataset and of what was left out, JSON-serializable.
        metadata: Value of each of its cases by column, unicode; "" is unknown.
    """
    own, other = (
        (case.counts, overlap_metrics(case.counts)["dsc"], case.groups) for case in (run, tested)
    )
    own_sizes, other_sizes = (_class_fractions(counts) for counts, _, _ in (own, other))
    per_class = {
        name: {
            "own_fraction": float(own_sizes[class_id]),
            "other_fraction": float(other_sizes[class_id]),
            "dsc": mean_change(own[1][:, class_id], own[2], other[1][:, class_id], other[2]),
        }
        for class_id, name in enumerate(run.dataset["class_names"])
    }
    mean = mean_change(own[1][:, 1:].mean(axis=1), own[2], other[1][:, 1:].mean(axis=1), other[2])
    transfer = {"dsc": mean, "per_class": per_class}
    record = {**facts, "images": len(tested.ids), "transfer": transfer}
    subgroups = summarize_case_subgroups(tested.counts, metadata or {}, tested.groups)
    write_subgroups(folder, subgroups)
    write_record(folder, record)
    return ExternalTest(name=folder.name, record=record, test=test, subgroups=subgroups)


def mean_change(
    own: Float[np.ndarray, " n"],
    own_groups: Groups | None,
    other: Float[np.ndarray, " m"],
    other_groups: Groups | None,
    *,
    level: float = LEVEL,
) -> dict[str, float]:
    """Return two means over different cases and their difference with its interval.

    Args:
        own: Values of the cases of the run's test ``[n]``.
        own_groups: Lesion or patient of each; None if all are independent.
        other: Values of the other cases ``[m]``.
        other_groups: Lesion or patient of each.
        level: Nominal coverage of the bootstrap percentile interval, which is expanded for the
            smaller test as in :func:`lmf_jax.evaluation.resampling.expanded_level`.
    """
    draws = bootstrap_means(other, other_groups, seed=1) - bootstrap_means(own, own_groups, seed=0)
    units = min(num_units(len(own), own_groups), num_units(len(other), other_groups))
    low, high = percentile_interval(draws, level=expanded_level(level, units))
    difference = float(other.mean() - own.mean())
    return {
        "own": float(own.mean()),
        "other": float(other.mean()),
        "difference": difference,
        "low": min(float(low), difference),
        "high": max(float(high), difference),
    }


def read_external(run_dir: str | Path, class_names: Sequence[str]) -> list[ExternalTest]:
    """Read all external tests of a run, sorted by name; none if there are none.

    Raises:
        UserError: If a file is missing or broken; the message names it.
    """
    return read_tests(run_dir, class_names, _check_record, read_tested, SUBGROUP_METRICS)


def _check_record(path: Path, record: Mapping[str, Any], class_names: Sequence[str]) -> None:
    transfer = record["transfer"]
    require(path, transfer, ("dsc", "per_class"), "its transfer")
    check_change(path, transfer["dsc"])
    per_class = transfer["per_class"]
    has_classes = isinstance(per_class, Mapping) and list(per_class) == list(class_names)
    check(path, has_classes, "its classes are not those of config.json")
    for row in per_class.values():
        require(path, row, ("own_fraction", "other_fraction", "dsc"), "its transfer")
        fractions = (row["own_fraction"], row["other_fraction"])
        check(path, all(is_number(x, 0, 1) for x in fractions), "its fractions are impossible")
        check_change(path, row["dsc"])


def format_external(external: ExternalTest) -> str:
    """Format how an external test differs from the test of the run, at most 80 columns wide.

    Args:
        external: Output of :func:`write_comparison`.
    """
    transfer = external.record["transfer"]
    rows: list[tuple[str, Sequence[str], str]] = [
        ("class", ("own", "other", "own", "other"), "change of DSC")
    ]
    for name, row in transfer["per_class"].items():
        values = (
            row["own_fraction"],
            row["other_fraction"],
            row["dsc"]["own"],
            row["dsc"]["other"],
        )
        rows.append((printable(name), tuple(map(format_fraction, values)), _change(row["dsc"])))
    mean = transfer["dsc"]
    means = ("", "", format_fraction(mean["own"]), format_fraction(mean["other"]))
    rows.append(("foreground mean", means, _change(mean)))
    width = min(max(len(name) for name, _, _ in rows), 30)
    lines = [f"{'':<{width}}  fraction of pixels         DSC"]
    for name, cells, change in rows:
        texts = "".join(f"{cell:>8}" for cell in cells)
        lines.append(f"{name[:width]:<{width}}{texts}  {change}".rstrip())
    lines.append("[ ]: 95 % interval for the choice of cases, lesions or patients of both tests")
    lines += textwrap.wrap(external.averaging_note, 80)
    return "\n".join(lines)


def _change(change: Mapping[str, float]) -> str:
    ends = format_interval((change["low"], change["high"]), format_difference)
    return f"{format_difference(change['difference'])} {ends}"


def _class_fractions(counts: np.ndarray) -> Float[np.ndarray, " classes"]:
    """Return the fraction of each class in all pixels or voxels of a test."""
    sizes = true_sizes(counts).sum(axis=0).astype(float)
    return sizes / max(sizes.sum(), 1)
