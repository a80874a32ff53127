"""Report of a multi-label run: a self-contained HTML file, and a table for the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lmf_jax.evaluation.calibration import format_loss
from lmf_jax.evaluation.folds import fold_rows
from lmf_jax.evaluation.formatting import (
    align_table,
    format_count,
    format_fraction,
    format_interval,
)
from lmf_jax.evaluation.multilabel.calibration import LabelCalibrator
from lmf_jax.evaluation.multilabel.external import read_external
from lmf_jax.evaluation.multilabel.run import (
    FOLD_METRICS,
    ODIR_METRICS,
    FinishedMultilabel,
    read_run,
)
from lmf_jax.evaluation.multilabel.scores import has_both_values
from lmf_jax.evaluation.multilabel.subgroups import SUBGROUP_METRICS, SUBGROUP_TITLES
from lmf_jax.evaluation.operating.curves import PrecisionRecallCurve, precision_recall_curve
from lmf_jax.evaluation.operating.file import read_points
from lmf_jax.evaluation.operating.section import operating_section
from lmf_jax.evaluation.page import write_page
from lmf_jax.evaluation.subgroup_results import subgroup_tables
from lmf_jax.evaluation.summary import MAX_NAMES, few_units_notes, unit_name
from lmf_jax.runs.files import best_epoch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OVERALL_TITLES = {
    "mean_average_precision": "mAP",
    "mean_auroc": "macro AUROC",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "samples_f1": "samples F1",
}
"""Metrics of the whole test part and their titles, in the order of the table."""
HISTORY_TITLES = {"val_auroc": "macro AUROC", "val_map": "mAP"}
MOST_CURVES = 8
"""Maximum number of labels with a curve; of more, the rarest are drawn."""


def write_report(run_dir: str | Path) -> Path:
    """Write the report of a multi-label run, see :func:`lmf_jax.evaluation.write_report`.

    Args:
        run_dir: The folder that ``train.py`` wrote.

    Returns:
        The path of ``report.html``.

    Raises:
        UserError: If the folder or one of its files is missing or broken; the message names the
            file.
    """
    run_dir = Path(run_dir)
    run = read_run(run_dir)
    curves = _curves(run)
    subgroups = SUBGROUP_METRICS.read(run_dir, len(run.labels))
    points = read_points(run_dir, run.dataset["class_names"])
    externals = read_external(run_dir, run.dataset["class_names"])
    return write_page(
        run_dir,
        run,
        "multilabel/report.html.j2",
        _draw_figures(run, curves),
        labels=_label_rows(run),
        best=best_epoch(run.history, "val_map") if run.history else None,
        folds=fold_rows(run.test, FOLD_METRICS),
        notes=label_notes(run.test),
        num_drawn=len(curves),
        num_missing=int((run.labels == -1).sum()),
        odir=[(name, run.test["odir"][name]) for name in ODIR_METRICS],
        calibration=describe_label_calibrator(run.calibrator),
        log_losses=_log_losses(run),
        subgroups=None if subgroups is None else _subgroup_tables(subgroups),
        externals=externals,
        operating=operating_section(points, run.calibrator, curves, len(run.test["per_label"])),
        external_subgroups={
            external.name: _subgroup_tables(external.subgroups)
            for external in externals
            if external.subgroups is not None
        },
    )


def format_test_table(
    test: Mapping[str, Any],
    train_positives: Sequence[int],
    part: str = "test",
    calibration: Mapping[str, Any] | None = None,
) -> str:
    """Format the metrics of each label and of the whole part as plain text.

    Args:
        test: The contents of ``test.json``.
        train_positives: Number of training images with each label.
        part: Part of the data that the metrics were computed on.
        calibration: The contents of ``calibration.json``, if the part is the test.

    Returns:
        A line per label and the means, a line per metric of the whole part with its interval if it
        has one, a line on calibration and notes, at most 80 columns wide; no newline at the end.
    """
    header = ("AP", "AUROC", "F1", "from p", part, "train")
    rows: list[tuple[str, tuple[str, ...]]] = [("label", header)]
    for (name, found), count in zip(test["per_label"].items(), train_positives, strict=True):
        values = (found[key] for key in ("average_precision", "auroc", "f1", "threshold"))
        counts = (format_count(found["positives"]), format_count(count))
        rows.append((name, (*map(format_fraction, values), *counts)))
    means = (test[name] for name in ("mean_average_precision", "mean_auroc", "macro_f1"))
    rows.append(("mean", (*map(format_fraction, means), "", "", "")))
    lines = [align_table(rows), ""]
    intervals = test["intervals"]
    for name, title in OVERALL_TITLES.items():
        ends = intervals.get(name)
        interval = format_interval(ends) if ends else ""
        lines.append(f"{title:<12} {format_fraction(test[name]):>6}  {interval}".rstrip())
    units = unit_name(intervals["drawn"])
    lines.append(f"[ ]: {100 * intervals['level']:g} % interval for the choice of {part} {units}")
    lines.append("F1: a label is predicted from the probability p on, chosen on validation")
    if calibration is not None:
        losses = calibration["metrics"]
        before, after = (
            format_loss(losses[name]["log_loss"]) for name in ("none", calibration["method"])
        )
        lines.append(f"log loss of the labels: {before}, calibrated {after}")
    return "\n".join([*lines, *label_notes(test)])


def label_notes(test: Mapping[str, Any]) -> list[str]:
    """Return notes on labels without a metric and on labels of few images or patients.

    Args:
        test: The contents of ``test.json``.
    """
    undefined = [name for name, found in test["per_label"].items() if found["auroc"] is None]
    notes = few_units_notes(test)
    if undefined:
        more = f" and {len(undefined) - MAX_NAMES} more" if len(undefined) > MAX_NAMES else ""
        notes.append(
            f"No AP and AUROC, for lack of images with or without the label: "
            f"{', '.join(undefined[:MAX_NAMES])}{more}; the means leave these labels out."
        )
    return notes


def describe_label_calibrator(calibrator: LabelCalibrator | None) -> str:
    """Return the method of calibration in a few words."""
    if calibrator is None or calibrator.method == "none":
        return "none"
    if calibrator.method == "temperature":
        return f"temperature scaling, T = {format_loss(calibrator.temperature)}"
    return "temperature scaling of each label"


def _subgroup_tables(content: Mapping[str, Any]) -> dict[str, Any]:
    return subgroup_tables(content, SUBGROUP_TITLES, by_class=False)


def _log_losses(run: FinishedMultilabel) -> list[tuple[str, str]]:
    """Return the log loss of the labels by the title of each method; none for folds."""
    if run.calibration is None:
        return []
    metrics = run.calibration["metrics"]
    return [
        (title, format_loss(metrics[method]["log_loss"]))
        for method, title in (("none", "none"), ("temperature", "temperature scaling"))
    ]


def _label_rows(run: FinishedMultilabel) -> list[dict[str, Any]]:
    """Return name, training images, test metrics and intervals of each label."""
    counts = run.dataset["class_counts"]["train"]
    intervals = run.test["intervals"]["per_label"]
    return [
        {"name": name, "train": count, "intervals": intervals[name], **found}
        for (name, found), count in zip(run.test["per_label"].items(), counts, strict=True)
    ]


def _curves(run: FinishedMultilabel) -> dict[str, PrecisionRecallCurve]:
    """Return the precision-recall curves of the rarest labels, in the order of the labels."""
    probabilities = run.calibrator.probabilities(run.logits)
    defined = np.flatnonzero(has_both_values(run.labels))
    counts = (run.labels == 1).sum(axis=0)
    rarest = defined[np.argsort(counts[defined], kind="stable")[:MOST_CURVES]]
    curves = {}
    for index in sorted(rarest.tolist()):
        known = run.labels[:, index] != -1
        curves[run.dataset["class_names"][index]] = precision_recall_curve(
            run.labels[known, index] == 1,
            probabilities[known, index],
            groups=None if run.groups is None else run.groups[known],
        )
    return curves


def _draw_figures(
    run: FinishedMultilabel, curves: Mapping[str, PrecisionRecallCurve]
) -> dict[str, "Figure"]:
    # Imported here because training prints its table without matplotlib.
    from lmf_jax.evaluation.figures import draw_training_curves
    from lmf_jax.evaluation.multilabel.figures import draw_reliability
    from lmf_jax.evaluation.operating.figures import draw_precision_recall_curves

    before = replace(run.calibrator, method="none")
    # Those of a cross-validation are calibrated, each by its fold.
    title = "not calibrated" if run.history else "calibrated in each fold"
    probabilities = {title: before.probabilities(run.logits)}
    if run.calibrator.method != "none":
        probabilities["calibrated"] = run.calibrator.probabilities(run.logits)
    drawn = {"reliability": draw_reliability(run.labels, probabilities)}
    if run.history:
        drawn["training_curves"] = draw_training_curves(run.history, HISTORY_TITLES)
    return drawn | ({"precision_recall": draw_precision_recall_curves(curves)} if curves else {})
