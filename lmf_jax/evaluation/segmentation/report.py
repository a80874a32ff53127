"""Report of a segmentation run: a self-contained HTML file, and a table for the terminal."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lmf_jax.evaluation.calibration import calibration_lines
from lmf_jax.evaluation.folds import fold_rows
from lmf_jax.evaluation.formatting import (
    align_table,
    format_count,
    format_distance,
    format_fraction,
    format_metrics,
    format_percent,
    format_range,
)
from lmf_jax.evaluation.page import write_page
from lmf_jax.evaluation.resampling import num_units
from lmf_jax.evaluation.segmentation.external import read_external
from lmf_jax.evaluation.segmentation.metrics import CASE_METRICS, overlap_metrics
from lmf_jax.evaluation.segmentation.overlays import Overlays
from lmf_jax.evaluation.segmentation.run import FOLD_METRICS, FinishedSegmentation, read_run
from lmf_jax.evaluation.segmentation.subgroups import SUBGROUP_METRICS, SUBGROUP_TITLES
from lmf_jax.evaluation.segmentation.summary import class_notes, true_sizes
from lmf_jax.evaluation.subgroup_results import subgroup_tables
from lmf_jax.runs.files import best_epoch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lmf_jax.evaluation.segmentation.figures import Overlay

OVERLAP_TITLES = {"dsc": "DSC", "iou": "IoU", "precision": "precision", "recall": "recall"}
HISTORY_TITLES = {"val_iou": "mean IoU", "val_dsc": "mean DSC"}
NUM_WORST = 10
"""Number of cases in the table of the worst."""


def write_report(run_dir: str | Path) -> Path:
    """Write the report of a segmentation run, see :func:`lmf_jax.evaluation.write_report`.

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
    background, *foreground = _class_rows(run)
    externals = read_external(run_dir, run.dataset["class_names"])
    has_foreground = (true_sizes(run.counts)[:, 1:] > 0).any(axis=1)
    return write_page(
        run_dir,
        run,
        "segmentation/report.html.j2",
        _draw_figures(run),
        background=background,
        classes=foreground,
        overall={name: _texts(run.test, run.test["intervals"], name) for name in CASE_METRICS},
        worst=_worst_cases(run),
        best=best_epoch(run.history, "val_dsc") if run.history else None,
        folds=fold_rows(run.test, FOLD_METRICS),
        class_notes=class_notes(run.test),
        calibration=[] if run.calibration is None else calibration_lines(run.calibration),
        subgroups=_subgroup_tables(SUBGROUP_METRICS.read(run_dir, len(run.ids))),
        externals=externals,
        external_subgroups={test.name: _subgroup_tables(test.subgroups) for test in externals},
        unit=run.test["hd95_unit"],
        elements=_elements(run),
        num_empty=int(np.count_nonzero(~has_foreground)),
        num_groups=None if run.groups is None else num_units(len(run.groups), run.groups),
    )


def _subgroup_tables(content: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if content is None else subgroup_tables(content, SUBGROUP_TITLES, by_class=False)


def format_test_table(
    test: Mapping[str, Any],
    part: str = "test",
    calibration: Mapping[str, Any] | None = None,
) -> str:
    """Format the metrics of each class and of the whole part as plain text.

    Args:
        test: The contents of ``test.json``.
        part: Part of the data that the metrics were computed on.
        calibration: The contents of ``calibration.json``, if the run has been calibrated.

    Returns:
        A line per class, the background first, and the foreground mean, a line per metric with its
        interval, up to two lines on calibration, and notes, at most 80 columns wide; no newline at
        the end.
    """
    per_class, hd95_title = test["per_class"], f"hd95 {test['hd95_unit']}"
    num_cases = format_count(len(test["per_case"]))
    rows = [
        ("class", (*OVERLAP_TITLES.values(), hd95_title, part)),
        *((name, (*_cells(row), format_count(row["support"]))) for name, row in per_class.items()),
        ("foreground mean", (*_cells(test), num_cases)),
    ]
    overall = format_metrics(
        test,
        {**OVERLAP_TITLES, "hd95": hd95_title},
        part=part,
        notes=class_notes(test, part),
        format_value=_format_value,
        widths=(12, 7),
    )
    lines = [] if calibration is None else calibration_lines(calibration)
    return "\n".join([align_table(rows), "", overall, *lines])


def _cells(metrics: Mapping[str, float | int]) -> tuple[str, ...]:
    return tuple(_format_value(name, metrics[name]) for name in CASE_METRICS)


def _format_value(name: str, value: float | int) -> str:
    return format_distance(value) if name == "hd95" else format_fraction(value)


def _texts(
    metrics: Mapping[str, Any], intervals: Mapping[str, Any], name: str
) -> tuple[str, str, float]:
    """Return a metric and its interval as text, and its value."""
    interval = format_range(intervals[name], partial(_format_value, name))
    return _format_value(name, metrics[name]), interval, float(metrics[name])


def _class_rows(run: FinishedSegmentation) -> list[dict[str, Any]]:
    """Return name, metrics, test cases and percentage of training pixels of each class, by id."""
    train_counts = run.dataset["class_counts"]["train"]
    total = max(sum(train_counts), 1)
    intervals = run.test["intervals"]["per_class"]
    return [
        {
            "name": name,
            "percentage": f"{format_percent(count / total)}\N{NO-BREAK SPACE}%",
            "support": metrics["support"],
            "dsc_value": metrics["dsc"],
            **{metric: _texts(metrics, intervals[name], metric) for metric in CASE_METRICS},
        }
        for (name, metrics), count in zip(run.test["per_class"].items(), train_counts, strict=True)
    ]


def _worst_cases(run: FinishedSegmentation) -> list[dict[str, Any]]:
    """Return name, metrics, true and predicted size of the cases with the lowest mean DSC."""
    per_case = run.test["per_case"]
    true_positives, false_positives, false_negatives = run.counts[:, 1:].sum(axis=1).T
    order = np.argsort([metrics["dsc"] for metrics in per_case.values()], kind="stable")
    return [
        {
            "name": str(run.ids[index]),
            **{name: _format_value(name, per_case[run.ids[index]][name]) for name in CASE_METRICS},
            "true_size": format_count(int(true_positives[index] + false_negatives[index])),
            "predicted_size": format_count(int(true_positives[index] + false_positives[index])),
        }
        for index in order[:NUM_WORST]
    ]


def _elements(run: FinishedSegmentation) -> str:
    """Return the plural noun for the elements of an image."""
    return "pixels" if run.test["hd95_unit"] == "pixels" else "voxels"


def _draw_figures(run: FinishedSegmentation) -> dict[str, "Figure"]:
    # Imported here because training prints its table without matplotlib.
    from lmf_jax.evaluation.figures import draw_training_curves
    from lmf_jax.evaluation.segmentation import figures

    names = run.dataset["class_names"]
    dsc = overlap_metrics(run.counts)["dsc"][:, 1:]
    sizes = true_sizes(run.counts)[:, 1:]
    drawn = {
        "dsc_distribution": figures.draw_dsc_distribution(dsc, names[1:]),
        "dsc_by_size": figures.draw_dsc_by_size(dsc, sizes, names[1:], _elements(run)),
    }
    if run.history:
        drawn["training_curves"] = draw_training_curves(run.history, HISTORY_TITLES)
    if run.overlays is not None:
        drawn["overlays"] = figures.draw_overlays(_overlays(run, run.overlays), names)
    return drawn


def _overlays(run: FinishedSegmentation, shown: Overlays) -> list["Overlay"]:
    from lmf_jax.evaluation.figures import wrap
    from lmf_jax.evaluation.segmentation.figures import Overlay

    names = [str(run.ids[index]) for index in shown.indices]
    per_case = run.test["per_case"]
    return [
        Overlay(
            title=f"{wrap(name, 30, lines=1)}\nDSC {format_fraction(per_case[name]['dsc'])}",
            image=image,
            labels=labels,
            prediction=prediction,
        )
        for name, image, labels, prediction in zip(
            names, shown.images, shown.labels, shown.predictions, strict=True
        )
    ]
