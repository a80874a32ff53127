"""Style of the report's figures, and the figures that all tasks share.

Figures are drawn without pyplot, so that they share no state and need no display. Sizes are chosen
so that a figure is readable at the width of a phone and in grayscale print.
"""

import textwrap
from collections.abc import Mapping, Sequence
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lmf_jax.runs.files import EpochMetrics, best_epoch

# Slate, two blues and vermilion: distinguishable with color blindness, and by lightness.
INK, MUTED, GRID = "#1f2933", "#66727f", "#e4e8ec"
SLATE, BLUE, LIGHT_BLUE, VERMILION = "#33404d", "#0072b2", "#85c1e3", "#d55e00"
PART_COLORS = {"train": SLATE, "validation": BLUE, "test": LIGHT_BLUE}
FRACTIONS = LinearSegmentedColormap.from_list("fractions", ["#ffffff", "#9ecae6", BLUE, "#04395e"])

WIDTH = 5.2
"""Width of a figure in inches; text stays readable when it is scaled to 360 pixels."""

# The defaults come first: a user's matplotlibrc must not change a report.
STYLE: list[Any] = [
    "default",
    {
        "font.family": "DejaVu Sans",  # Comes with matplotlib.
        "font.size": 10,
        "text.color": INK,
        "text.parse_math": False,  # A class name may contain a dollar sign.
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "lines.linewidth": 1.8,
        "legend.frameon": False,
        "legend.borderaxespad": 0.2,
        "figure.constrained_layout.use": True,
        "savefig.dpi": 200,
        "savefig.bbox": "tight",
        "savefig.pad_inches": 0.05,
    },
]


@style.context(STYLE)
def draw_training_curves(history: Sequence[EpochMetrics], scores: Mapping[str, str]) -> Figure:
    """Draw the losses above two validation scores over the epochs.

    The best epoch and each step down of the learning rate are marked; smooth schedules have no
    steps.

    Args:
        history: Lines of ``metrics.jsonl``, one per epoch.
        scores: Keys and titles of two scores; the last one selects the best epoch.
    """
    figure = Figure(figsize=(WIDTH, 5.2))
    (other, other_title), (chosen, chosen_title) = scores.items()
    loss_axes, score_axes = figure.subplots(2, sharex=True)
    _plot_curve(loss_axes, history, "train_loss", color=SLATE, label="train")
    _plot_curve(loss_axes, history, "val_loss", color=BLUE, label="validation")
    _plot_curve(score_axes, history, other, color=LIGHT_BLUE, linestyle="--", label=other_title)
    _plot_curve(score_axes, history, chosen, color=BLUE, label=chosen_title)
    loss_axes.set_ylabel("Loss")
    score_axes.set_ylabel("Validation score")
    score_axes.set_xlabel("Epoch")
    score_axes.xaxis.set_major_locator(
        MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1)
    )
    _mark_learning_rate_drops(loss_axes, history)
    _mark_best_epoch(score_axes, history, chosen)
    score_axes.set_ylim(bottom=max(score_axes.get_ylim()[0], -0.005))  # No score is negative.
    for axes in (loss_axes, score_axes):
        axes.grid(axis="y")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure


def _plot_curve(axes: Axes, history: Sequence[EpochMetrics], key: str, **line: Any) -> None:
    epochs = [entry["epoch"] for entry in history]
    # A line through a single epoch is invisible, and one through a few is hard to see.
    marker = "o" if len(epochs) <= 20 else None
    axes.plot(epochs, [entry[key] for entry in history], marker=marker, markersize=3.5, **line)


def _mark_learning_rate_drops(axes: Axes, history: Sequence[EpochMetrics]) -> None:
    drops = learning_rate_drops(history)
    if drops:
        axes.vlines(
            np.array(drops) - 0.5,  # The new rate begins between two points.
            0,
            1,
            transform=axes.get_xaxis_transform(),
            color=MUTED,
            linewidth=1.2,
            linestyle=":",
            label="learning rate falls",
            zorder=0,
        )


def _mark_best_epoch(axes: Axes, history: Sequence[EpochMetrics], score: str) -> None:
    best = best_epoch(history, score)
    axes.plot(best["epoch"], best[score], "o", color=VERMILION, markersize=7, zorder=3)
    axes.annotate(
        f"best {best[score]:.3f} in epoch {best['epoch']}",
        xy=(1, 1),
        xycoords="axes fraction",
        xytext=(0, 9),
        textcoords="offset points",
        ha="right",
        color=VERMILION,
    )


def learning_rate_drops(history: Sequence[EpochMetrics]) -> list[int]:
    """Return the first epoch after each step down from a rate that lasted at least two epochs.

    Args:
        history: Mappings with ``epoch`` and ``learning_rate``, in order.
    """
    rates = [entry["learning_rate"] for entry in history]
    return [
        int(history[i]["epoch"])
        for i in range(2, len(rates))
        if isclose(rates[i - 2], rates[i - 1])
        and rates[i] < rates[i - 1]
        and not isclose(rates[i - 1], rates[i])
    ]


def rows_figure(class_names: Sequence[str], *, per_row: float) -> tuple[Figure, Axes]:
    """Create a figure with one row per class, the first on top.

    Args:
        class_names: Labels of the rows.
        per_row: Minimum height of a row in inches; long names need more.
    """
    names = [wrap(name, 20, lines=3) for name in class_names]
    most_lines = max(name.count("\n") + 1 for name in names)
    height = max(per_row, 0.17 * most_lines)
    figure = Figure(figsize=(WIDTH, 1.2 + height * len(names)))
    axes = figure.subplots()
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.5, -0.5)
    return figure, axes


def wrap(name: str, width: int, *, lines: int) -> str:
    """Wrap a long name, and truncate it to the given number of lines."""
    rows = textwrap.wrap(name, width) or [name]
    if len(rows) > lines:
        rows = rows[:lines]
        rows[-1] = rows[-1][: width - 1] + "…"  # Keep the beginning of a name without spaces.
    return "\n".join(rows)


@style.context(STYLE)
def save_figure(figure: Figure, path: Path) -> None:
    """Save a figure as PNG; equal figures give equal files.

    Args:
        figure: The figure.
        path: The file, in an existing folder.
    """
    figure.savefig(path, format="png", metadata={"Software": None})
