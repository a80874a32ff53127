"""The figures of a report, each drawn from plain data and in one style.

They are drawn without pyplot: two figures share no state and no display is needed. Widths and
letters are chosen so that a figure can be read at the width of a phone and in grey print.
"""

import textwrap
from collections.abc import Mapping, Sequence
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Integer
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from lmf_jax.evaluation.classification.scores import ReliabilityBins
from lmf_jax.runs.files import EpochMetrics, best_epoch

# Slate, two blues and vermilion: told apart by people of every colour vision, and by lightness.
INK, MUTED, GRID = "#1f2933", "#66727f", "#e4e8ec"
SLATE, BLUE, LIGHT_BLUE, VERMILION = "#33404d", "#0072b2", "#85c1e3", "#d55e00"
PART_COLORS = {"train": SLATE, "validation": BLUE, "test": LIGHT_BLUE}
SHARES = LinearSegmentedColormap.from_list("shares", ["#ffffff", "#9ecae6", BLUE, "#04395e"])

WIDTH = 5.2
"""Width of a figure in inches: its letters stay readable at 360 pixels."""

# The defaults first: a person's own matplotlibrc must not change a report.
STYLE: list[Any] = [
    "default",
    {
        "font.family": "DejaVu Sans",  # comes with matplotlib
        "font.size": 10,
        "text.color": INK,
        "text.parse_math": False,  # a class name may hold a dollar sign
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


CLASSIFICATION_SCORES = {"val_accuracy": "accuracy", "val_macro_f1": "macro F1"}


@style.context(STYLE)
def draw_training_curves(
    history: Sequence[EpochMetrics], scores: Mapping[str, str] = CLASSIFICATION_SCORES
) -> Figure:
    """Draw the losses above two validation scores, over the epochs.

    The best epoch is marked, and each step down of the learning rate. A schedule that falls
    smoothly has no such step and gets no mark.

    Args:
        history: the lines of ``metrics.jsonl``, one mapping per epoch.
        scores: key and title of two of them, the one that the best epoch is chosen by as the last.

    Returns:
        The figure.
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
    score_axes.set_ylim(bottom=max(score_axes.get_ylim()[0], -0.005))  # no score is below 0
    for axes in (loss_axes, score_axes):
        axes.grid(axis="y")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure


def _plot_curve(axes: Axes, history: Sequence[EpochMetrics], key: str, **line: Any) -> None:
    epochs = [entry["epoch"] for entry in history]
    # A line through one or a few epochs would be hard to see or invisible.
    marker = "o" if len(epochs) <= 20 else None
    axes.plot(epochs, [entry[key] for entry in history], marker=marker, markersize=3.5, **line)


def _mark_learning_rate_drops(axes: Axes, history: Sequence[EpochMetrics]) -> None:
    drops = learning_rate_drops(history)
    if drops:
        axes.vlines(
            np.array(drops) - 0.5,  # the new rate begins between two points
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
    """Return the epochs in which the learning rate stepped down after two epochs at one rate.

    Args:
        history: mappings with ``epoch`` and ``learning_rate``, in order.

    Returns:
        The first epoch at each lower rate.
    """
    rates = [entry["learning_rate"] for entry in history]
    return [
        int(history[i]["epoch"])
        for i in range(2, len(rates))
        if isclose(rates[i - 2], rates[i - 1])
        and rates[i] < rates[i - 1]
        and not isclose(rates[i - 1], rates[i])
    ]


@style.context(STYLE)
def draw_confusion_matrix(
    confusion: Integer[np.ndarray, "classes classes"], class_names: Sequence[str]
) -> Figure:
    """Draw the confusion matrix: counts as numbers, the share of the true class as colour.

    Args:
        confusion: counts ``[C, C]``, row = true class, column = predicted class.
        class_names: the ``C`` names by class id.

    Returns:
        The figure, larger the more classes there are.
    """
    num_classes = len(class_names)
    names = [wrap(name, 20, lines=3 if num_classes <= 8 else 2) for name in class_names]
    side = max(WIDTH, 2.2 + 0.32 * num_classes)
    figure = Figure(figsize=(side, side))
    axes = figure.subplots()
    shares = confusion / confusion.sum(axis=1, keepdims=True).clip(min=1)
    image = axes.imshow(shares, cmap=SHARES, vmin=0, vmax=1)
    _write_counts(axes, confusion, shares)

    longest = max(len(line) for name in names for line in name.split("\n"))
    is_wide = num_classes * longest > 36  # letters side by side below the cells
    axes.set_xticks(range(num_classes), names, rotation=90 if is_wide else 0)
    axes.set_yticks(range(num_classes), names)
    axes.tick_params(length=0, labelsize=9)
    axes.set_xlabel("Predicted class")
    axes.set_ylabel("True class")
    axes.spines[:].set_visible(False)
    edges = np.arange(num_classes + 1) - 0.5
    axes.hlines(edges, -0.5, num_classes - 0.5, color=GRID, linewidth=0.8)
    axes.vlines(edges, -0.5, num_classes - 0.5, color=GRID, linewidth=0.8)
    bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=30, fraction=0.04, pad=0.02)
    bar.set_label("Share of the true class")
    bar.outline.set_visible(False)
    return figure


def _write_counts(
    axes: Axes,
    confusion: Integer[np.ndarray, "classes classes"],
    shares: Float[np.ndarray, "classes classes"],
) -> None:
    size = float(np.clip(15 - 0.6 * len(confusion), 7, 12))
    for (row, column), count in np.ndenumerate(confusion):
        if count == 0 and row != column:  # an empty cell reads faster than a zero
            continue
        color = "white" if shares[row, column] > 0.5 else INK
        axes.text(column, row, f"{count:,}", ha="center", va="center", color=color, fontsize=size)


@style.context(STYLE)
def draw_per_class_f1(
    per_class: Mapping[str, Mapping[str, float | int]], train_counts: Sequence[int]
) -> Figure:
    """Draw the F1 of each class as a bar, from the most to the least frequent class in training.

    Args:
        per_class: for each class name, in the order of the class ids, ``f1`` and ``support``.
        train_counts: training images per class, by class id.

    Returns:
        The figure; the dashed line is the macro mean.
    """
    order = np.argsort(-np.asarray(train_counts), kind="stable")
    names = [list(per_class)[class_id] for class_id in order]
    f1 = np.array([per_class[name]["f1"] for name in names])
    rows = np.arange(len(names))

    figure, axes = rows_figure(names, per_row=0.32)
    axes.barh(rows, f1, height=0.62, color=BLUE)
    axes.axvline(f1.mean(), color=VERMILION, linestyle="--", linewidth=1.2)
    axes.annotate(
        f"macro F1 {f1.mean():.3f}",
        xy=(f1.mean(), 1),
        xycoords=axes.get_xaxis_transform(),
        xytext=(0, 5),
        textcoords="offset points",
        ha="right" if f1.mean() > 0.5 else "left",
        color=VERMILION,
    )
    columns = {
        "F1": [
            f"{per_class[name]['f1']:.3f}" if per_class[name]["support"] else "n/a"
            for name in names
        ],
        "train": [f"{train_counts[class_id]:,}" for class_id in order],
        "test": [f"{per_class[name]['support']:,}" for name in names],
    }
    _write_columns(axes, columns)
    axes.set_xlim(0, 1)
    axes.set_xlabel("F1 on the test part")
    axes.grid(axis="x")
    return figure


def _write_columns(axes: Axes, columns: Mapping[str, Sequence[str]]) -> None:
    """Write right-aligned columns of numbers, one line per row, to the right of the axes."""
    right = 0.0  # in points
    for title, texts in columns.items():
        right += 10 + 6 * max(len(text) for text in (title, *texts))
        for row, text in enumerate(texts):
            axes.annotate(
                text,
                xy=(1, row),
                xycoords=axes.get_yaxis_transform(),
                xytext=(right, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=9,
            )
        axes.annotate(
            title,
            xy=(1, 1),
            xycoords="axes fraction",
            xytext=(right, 5),
            textcoords="offset points",
            ha="right",
            color=MUTED,
            fontsize=9,
        )


@style.context(STYLE)
def draw_reliability(bins: ReliabilityBins) -> Figure:
    """Draw how often the model is right against how sure it is, above the images in each bin.

    Args:
        bins: from :func:`lmf_jax.evaluation.classification.scores.reliability_bins`.

    Returns:
        The figure; a calibrated model lies on the diagonal, an overconfident one below it.
    """
    figure = Figure(figsize=(WIDTH, WIDTH))
    axes, count_axes = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    filled = bins.counts > 0
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle="--", linewidth=1.2, label="calibrated")
    axes.plot(
        bins.confidence[filled],
        bins.accuracy[filled],
        marker="o",
        color=BLUE,
        markersize=5,
        label="this model",
    )
    axes.set_ylim(0, 1)
    axes.set_ylabel("Share that is right")
    axes.grid()
    axes.legend(loc="upper left")
    widths = np.diff(bins.edges)
    count_axes.bar(bins.edges[:-1], bins.counts, 0.9 * widths, align="edge", color=LIGHT_BLUE)
    count_axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    count_axes.set_ylabel("Images")
    count_axes.set_xlabel("Probability of the predicted class")
    count_axes.set_xlim(0, 1)
    return figure


@style.context(STYLE)
def draw_class_distribution(
    class_counts: Mapping[str, Sequence[int]],
    class_names: Sequence[str],
    margins: Sequence[float] | None = None,
) -> Figure:
    """Draw the images per class of each part of the data, and the LDAM margin of each class.

    The axis of the counts is logarithmic where the largest is more than ten times the smallest.

    Args:
        class_counts: for "train", "validation" and "test" the images per class, by class id.
        class_names: the ``C`` names by class id.
        margins: margin of each class; left out where a class has no training image, and so none.

    Returns:
        The figure.
    """
    figure, axes = rows_figure(class_names, per_row=0.42)
    rows = np.arange(len(class_names))
    height = 0.78 / len(class_counts)
    for i, (part, counts) in enumerate(class_counts.items()):
        offset = (i - (len(class_counts) - 1) / 2) * height
        axes.barh(rows + offset, counts, height=height, color=PART_COLORS[part], label=part)
    _scale_counts(axes, np.array(list(class_counts.values())))
    axes.set_xlabel("Images")
    axes.grid(axis="x")
    if margins is not None:
        _add_margins(axes, margins)
    figure.legend(loc="outside upper center", ncols=4)
    return figure


def _scale_counts(axes: Axes, counts: Int[np.ndarray, "parts classes"]) -> None:
    positive = counts[counts > 0]
    if positive.size and positive.max() > 10 * positive.min():
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        # A class with a single image still gets a bar to be seen.
        axes.set_xlim(left=0.7 * positive.min())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))


def _add_margins(axes: Axes, margins: Sequence[float]) -> None:
    margin_axes = axes.twiny()
    margin_axes.plot(
        margins,
        range(len(margins)),
        "D",
        color=VERMILION,
        markersize=6,
        markeredgecolor="white",
        label="LDAM margin",
    )
    margin_axes.set_xlim(0, 1.08 * max(margins))
    margin_axes.set_xlabel("LDAM margin", color=VERMILION)
    margin_axes.tick_params(axis="x", labelcolor=VERMILION, color=VERMILION)
    margin_axes.spines["top"].set(visible=True, color=VERMILION)


def rows_figure(class_names: Sequence[str], *, per_row: float) -> tuple[Figure, Axes]:
    """Make a figure with one row per class, the first on top.

    Args:
        class_names: of the rows.
        per_row: inches of a row, or more where its name is long.
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
    """Break a long class name into lines, and shorten what does not fit into them."""
    rows = textwrap.wrap(name, width) or [name]
    if len(rows) > lines:
        rows = rows[:lines]
        rows[-1] = rows[-1][: width - 1] + "…"  # of a name without spaces, its beginning
    return "\n".join(rows)


@style.context(STYLE)
def save_figure(figure: Figure, path: Path) -> None:
    """Save a figure as PNG; equal figures give equal files.

    Args:
        figure: what one of the functions above returned.
        path: the file; its folder exists.
    """
    figure.savefig(path, format="png", metadata={"Software": None})
