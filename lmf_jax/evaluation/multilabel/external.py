"""Tests of a multi-label run on other datasets."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from lmf_jax.errors import printable
from lmf_jax.evaluation.external import (
    Change,
    ExternalTest,
    check_change,
    make_folder,
    read_tests,
    write_record,
)
from lmf_jax.evaluation.formatting import format_difference, format_fraction, format_interval
from lmf_jax.evaluation.multilabel.calibration import (
    LabelCalibrator,
    label_probability_metrics,
)
from lmf_jax.evaluation.multilabel.run import FinishedMultilabel, read_tested, summarize
from lmf_jax.evaluation.multilabel.subgroups import (
    SUBGROUP_METRICS,
    summarize_test_subgroups,
)
from lmf_jax.evaluation.multilabel.summary import to_json
from lmf_jax.evaluation.multilabel.transfer import LabelScores, LabelTransfer, explain_transfer
from lmf_jax.evaluation.predictions import Predictions, check_finite
from lmf_jax.evaluation.subgroup_results import write_subgroups
from lmf_jax.runs.atomic_files import write_results
from lmf_jax.runs.files import check, is_number, require

PREVALENCES = ("own_prevalence", "other_prevalence")


def write_external(
    folder: Path,
    run: FinishedMultilabel,
    calibrated: Predictions,
    thresholds: Float[np.ndarray, " labels"],
    facts: Mapping[str, Any],
    metadata: Mapping[str, Shaped[np.ndarray, " n"]],
) -> ExternalTest:
    """Write the predictions, the metrics, the subgroups and the comparison of an external test.

    The files are ``predictions.npz``, ``test.json``, ``external.json`` and, with metadata,
    ``subgroups.json``.

    Args:
        folder: The folder ``external/<name>`` of the run, which is made.
        run: The contents of the run folder.
        calibrated: Predictions of the images of the other dataset, with calibrated logits.
        thresholds: Probability from which each label is predicted ``[C]``.
        facts: Description of the other dataset and of what was left out: ``dataset``, ``leakage``
            and further keys, JSON-serializable.
        metadata: Value of each of these images by column, unicode; "" is unknown.

    Raises:
        UserError: If a logit is NaN or infinite, or the folder cannot be made.
    """
    check_finite(calibrated.logits, "test")
    make_folder(folder)
    names = run.dataset["class_names"]
    labels, logits, groups = calibrated.labels, calibrated.logits, calibrated.groups
    test = summarize(calibrated, names, LabelCalibrator.identity(len(names)), thresholds)
    own_logits = run.calibrator.calibrate(run.logits)
    transfer = explain_transfer(
        LabelScores(run.labels, own_logits, run.groups), LabelScores(labels, logits, groups)
    )
    record = {
        **facts,
        "images": len(calibrated.ids),
        "transfer": None if transfer is None else _transfer_record(transfer, names),
        "calibration": {
            "own": label_probability_metrics(run.labels, own_logits),
            "other": label_probability_metrics(labels, logits),
        },
    }
    subgroups = summarize_test_subgroups(labels, logits, thresholds, metadata, groups)
    write_results(folder, "predictions", calibrated.arrays(), groups, test)
    write_subgroups(folder, subgroups)
    write_record(folder, record)
    return ExternalTest(name=folder.name, record=record, test=test, subgroups=subgroups)


def read_external(run_dir: str | Path, label_names: Sequence[str]) -> list[ExternalTest]:
    """Read all external tests of a run, sorted by name; none if there are none.

    Raises:
        UserError: If a file is missing or broken; the message names it.
    """
    return read_tests(run_dir, label_names, _check_record, read_tested, SUBGROUP_METRICS)


def _check_record(path: Path, record: Mapping[str, Any], label_names: Sequence[str]) -> None:
    require(path, record, ("calibration",))
    require(path, record["calibration"], ("own", "other"), "its calibration")
    for metrics in record["calibration"].values():
        require(path, metrics, ("log_loss", "brier"), "its calibration")
        check(path, all(map(is_number, metrics.values())), "its calibration is not numbers")
    if record["transfer"] is None:
        return
    transfer = record["transfer"]
    require(path, transfer, ("mean_auroc", "per_label"), "its transfer")
    check_change(path, transfer["mean_auroc"])
    per_label = transfer["per_label"]
    has_labels = isinstance(per_label, Mapping) and list(per_label) == list(label_names)
    check(path, has_labels, "its labels are not those of config.json")
    for row in per_label.values():
        require(path, row, (*PREVALENCES, "auroc"), "its transfer")
        check_change(path, row["auroc"], is_optional=True)
        are_fractions = all(row[key] is None or is_number(row[key], 0, 1) for key in PREVALENCES)
        check(path, are_fractions, "a prevalence in it is not a fraction")


def _transfer_record(transfer: LabelTransfer, label_names: Sequence[str]) -> dict[str, Any]:
    return {
        "mean_auroc": transfer.mean_auroc._asdict(),
        "per_label": {
            name: {
                "own_prevalence": to_json(transfer.own_prevalence[index]),
                "other_prevalence": to_json(transfer.other_prevalence[index]),
                "auroc": None if change is None else change._asdict(),
            }
            for index, (name, change) in enumerate(zip(label_names, transfer.auroc, strict=True))
        },
    }


def format_external(external: ExternalTest) -> str:
    """Format how an external test differs from the test of the run, at most 80 columns wide.

    Args:
        external: Output of :func:`write_external`.

    Returns:
        A table of prevalence and AUROC by label, and the change of their mean; no newline at the
        end.
    """
    transfer = external.record["transfer"]
    if transfer is None:
        return "No label has images with and without it in the test of the run and here."
    rows = [("label", "own", "here", "own", "here", "change of AUROC")]
    for name, row in transfer["per_label"].items():
        own, here = (format_fraction(row[key]) for key in PREVALENCES)
        rows.append((printable(name), own, here, *_cells(row["auroc"])))
    rows.append(("mean", "", "", *_cells(transfer["mean_auroc"])))
    width = min(max(len(row[0]) for row in rows), 25)
    lines = [f"{'':<{width}}     prevalence           AUROC"]
    for name, *cells, change in rows:
        texts = "".join(f"{cell:>8}" for cell in cells)
        lines.append(f"{name[:width]:<{width}}{texts}  {change}".rstrip())
    calibration = external.record["calibration"]
    losses = [format_fraction(calibration[key]["log_loss"]) for key in ("own", "other")]
    return "\n".join(
        [
            *lines,
            "",
            f"log loss of the labels: {losses[0]} own, {losses[1]} here",
            "own: the test of the run; [ ]: 95 % interval for the choice of the images or",
            "patients of both tests; mean: over the labels with an AUROC in both",
            *textwrap.wrap(external.averaging_note, 80),
        ]
    )


def _cells(auroc: Mapping[str, float] | None) -> tuple[str, str, str]:
    """Return AUROC of both tests and its change with an interval."""
    if auroc is None:
        return "n/a", "n/a", ""
    change = Change(**auroc)
    ends = format_interval((change.low, change.high), format_difference)
    values = format_fraction(change.own), format_fraction(change.other)
    return *values, f"{format_difference(change.difference)} {ends}"
