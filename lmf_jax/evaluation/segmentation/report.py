"""The report of a finished run of segmentation: an HTML file, and a table for the terminal."""

import textwrap
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lmf_jax.evaluation.classification.summary import describe_few_units
from lmf_jax.evaluation.formatting import (
    absent_class_notes,
    align_table,
    format_count,
    format_distance,
    format_fraction,
    format_interval,
    format_percent,
    format_range,
)
from lmf_jax.evaluation.page import render_page, save_figures, write_page
from lmf_jax.evaluation.resampling import num_units
from lmf_jax.evaluation.segmentation.metrics import CASE_METRICS, overlap_metrics
from lmf_jax.evaluation.segmentation.overlays import Overlays
from lmf_jax.evaluation.segmentation.run import FinishedSegmentation, read_run
from lmf_jax.runs.files import best_epoch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lmf_jax.evaluation.segmentation.figures import Overlay

TITLES = {"dsc": "DSC", "iou": "IoU", "precision": "precision", "recall": "recall"}
WORST_CASES = 10
"""Cases in the table of the worst."""


def write_report(run_dir: str | Path) -> Path:
    """Write ``figures/*.png`` and ``report.html`` into the folder of a run of segmentation.

    Args:
        run_dir: the folder that ``train.py`` wrote.

    Returns:
        The path of ``report.html``, a single file, see :func:`lmf_jax.evaluation.write_report`.

    Raises:
        UserError: if the folder or one of its files is missing or broken; it names the file.
    """
    run_dir = Path(run_dir)
    run = read_run(run_dir)
    figures = save_figures(run_dir / "figures", _draw_figures(run))
    rows, has_class = _class_rows(run), run.counts[:, :, 0] + run.counts[:, :, 2] > 0
    html = render_page(
        "segmentation.html.j2",
        run,
        figures,
        background=rows[0],
        classes=rows[1:],
        overall={name: _texts(run.test, run.test["intervals"], name) for name in CASE_METRICS},
        worst=_worst_cases(run),
        best=best_epoch(run.history, "val_dsc"),
        class_notes=[*describe_few_units(run.test), *absent_class_notes(run.test)],
        unit=run.test["hd95_unit"],
        places=_places(run),
        empty=int(np.count_nonzero(~has_class[:, 1:].any(axis=1))),
        groups=None if run.groups is None else num_units(len(run.groups), run.groups),
    )
    return write_page(run_dir, html)


def format_test_table(test: Mapping[str, Any], part: str = "test") -> str:
    """Lay out the metrics of each class as plain text, at most 80 columns wide.

    Args:
        test: the metrics in the form of ``test.json``.
        part: of the data that the metrics are of.

    Returns:
        A line per class, the background first, and the mean of the others, then a line for each
        metric with its interval, and which classes no case has; no newline at the end.
    """
    per_class, unit = test["per_class"], test["hd95_unit"]
    cases = format_count(len(test["per_case"]))
    head = (*TITLES.values(), f"hd95 {unit}", part)
    rows = [
        ("class", head),
        *((name, (*_cells(row), format_count(row["support"]))) for name, row in per_class.items()),
        ("foreground mean", (*_cells(test), cases)),
    ]
    return f"{align_table(rows)}\n\n{_format_intervals(test, part)}"


def _format_intervals(test: Mapping[str, Any], part: str) -> str:
    """Write each mean over the foreground classes with its interval, a line each."""
    intervals = test["intervals"]
    titles = {**TITLES, "hd95": f"hd95 {test['hd95_unit']}"}
    lines = [
        f"{title:<12} {_write(name, test[name]):>7}  "
        f"{format_interval(intervals[name], partial(_write, name))}"
        for name, title in titles.items()
    ]
    units = "cases" if intervals["drawn"] == "cases" else "patients or lesions"
    lines.append(f"[ ]: {100 * intervals['level']:g} % interval over other {part} {units}")
    for note in (*absent_class_notes(test, part), *describe_few_units(test)):
        lines += textwrap.wrap(note, 80, break_on_hyphens=False)
    return "\n".join(lines)


def _cells(metrics: Mapping[str, float | int]) -> tuple[str, ...]:
    return tuple(_write(name, metrics[name]) for name in CASE_METRICS)


def _write(name: str, value: float | int) -> str:
    return format_distance(value) if name == "hd95" else format_fraction(value)


def _texts(
    metrics: Mapping[str, Any], intervals: Mapping[str, Any], name: str
) -> tuple[str, str, float]:
    """Return a metric and its interval as text, and its value."""
    ends = format_range(intervals[name], partial(_write, name))
    return _write(name, metrics[name]), ends, float(metrics[name])


def _class_rows(run: FinishedSegmentation) -> list[dict[str, Any]]:
    """Return name, metrics, test cases and share of the training pixels of each class, by id."""
    train_counts = run.dataset["class_counts"]["train"]
    total = max(sum(train_counts), 1)
    intervals = run.test["intervals"]["per_class"]
    return [
        {
            "name": name,
            "share": f"{format_percent(count / total)}\N{NO-BREAK SPACE}%",
            "support": metrics["support"],
            "dsc_value": metrics["dsc"],
            **{metric: _texts(metrics, intervals[name], metric) for metric in CASE_METRICS},
        }
        for (name, metrics), count in zip(run.test["per_class"].items(), train_counts, strict=True)
    ]


def _worst_cases(run: FinishedSegmentation) -> list[dict[str, Any]]:
    """Return name, metrics, true and found size of the cases with the lowest mean DSC."""
    per_case = run.test["per_case"]
    true_positives, false_positives, false_negatives = run.counts[:, 1:].sum(axis=1).T
    order = np.argsort([metrics["dsc"] for metrics in per_case.values()], kind="stable")
    return [
        {
            "name": str(run.ids[place]),
            **{name: _write(name, per_case[run.ids[place]][name]) for name in CASE_METRICS},
            "true_size": format_count(int(true_positives[place] + false_negatives[place])),
            "found_size": format_count(int(true_positives[place] + false_positives[place])),
        }
        for place in order[:WORST_CASES]
    ]


def _places(run: FinishedSegmentation) -> str:
    """Return what an image is made of."""
    return "pixels" if run.test["hd95_unit"] == "pixels" else "voxels"


def _draw_figures(run: FinishedSegmentation) -> dict[str, "Figure"]:
    # Imported here because training prints its table without any need of matplotlib.
    from lmf_jax.evaluation.figures import draw_training_curves
    from lmf_jax.evaluation.segmentation import figures as figures

    names = run.dataset["class_names"]
    dsc = overlap_metrics(run.counts)["dsc"][:, 1:]
    sizes = (run.counts[:, :, 0] + run.counts[:, :, 2])[:, 1:]
    drawn = {
        "dsc_distribution": figures.draw_dsc_distribution(dsc, names[1:]),
        "dsc_by_size": figures.draw_dsc_by_size(dsc, sizes, names[1:], _places(run)),
        "training_curves": draw_training_curves(
            run.history, {"val_iou": "mean IoU", "val_dsc": "mean DSC"}
        ),
    }
    if run.overlays is not None:
        drawn["overlays"] = figures.draw_overlays(_overlays(run, run.overlays), names)
    return drawn


def _overlays(run: FinishedSegmentation, shown: Overlays) -> list["Overlay"]:
    from lmf_jax.evaluation.figures import wrap
    from lmf_jax.evaluation.segmentation.figures import Overlay

    names = [str(run.ids[place]) for place in shown.places]
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
