"""Figures of a classification report, each drawn from plain data in the common style."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Integer
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from lmf_jax.evaluation.classification.scores import ReliabilityBins
from lmf_jax.evaluation.figures import (
    BLUE,
    FRACTIONS,
    GRID,
    INK,
    MUTED,
    PART_COLORS,
    STYLE,
    VERMILION,
    WIDTH,
    rows_figure,
    wrap,
)

MOST_IN_PERCENT = 10
"""Maximum number of classes of a confusion matrix with percentages."""


@style.context(STYLE)
def draw_confusion_matrix(
    confusion: Integer[np.ndarray, "classes classes"], class_names: Sequence[str]
) -> Figure:
    """Draw the confusion matrix in counts and percent of the true class, which is also the color.

    With more than :data:`MOST_IN_PERCENT` classes the cells have no room for the percentages.

    Args:
        confusion: Counts ``[C, C]``, row = true class, column = predicted class.
        class_names: The ``C`` names by class id.

    Returns:
        The figure, whose size grows with the number of classes.
    """
    num_classes = len(class_names)
    names = [wrap(name, 20, lines=3 if num_classes <= 8 else 2) for name in class_names]
    side = max(WIDTH, 2.2 + 0.32 * num_classes)
    figure = Figure(figsize=(side, side))
    axes = figure.subplots()
    fractions = confusion / confusion.sum(axis=1, keepdims=True).clip(min=1)
    image = axes.imshow(fractions, cmap=FRACTIONS, vmin=0, vmax=1)
    _write_counts(axes, confusion, fractions)

    longest = max(len(line) for name in names for line in name.split("\n"))
    is_wide = num_classes * longest > 36  # In letters below the cells.
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
    bar.set_label("Fraction of the true class")
    bar.outline.set_visible(False)
    return figure


def _write_counts(
    axes: Axes,
    confusion: Integer[np.ndarray, "classes classes"],
    fractions: Float[np.ndarray, "classes classes"],
) -> None:
    size = float(np.clip(15 - 0.6 * len(confusion), 7, 12))
    for (row, column), count in np.ndenumerate(confusion):
        if count == 0 and row != column:  # An empty cell is easier to read than a zero.
            continue
        color = "white" if fractions[row, column] > 0.5 else INK
        text: dict[str, Any] = {"ha": "center", "color": color}
        if len(confusion) > MOST_IN_PERCENT:
            axes.text(column, row, f"{count:,}", va="center", fontsize=size, **text)
            continue
        axes.text(column, row, f"{count:,}", va="bottom", fontsize=size, **text)
        percent = f"{100 * fractions[row, column]:.0f} %"
        axes.text(column, row + 0.08, percent, va="top", fontsize=0.75 * size, **text)


@style.context(STYLE)
def draw_per_class_f1(
    per_class: Mapping[str, Mapping[str, float | int]], train_counts: Sequence[int]
) -> Figure:
    """Draw the F1 of each class as a bar, from the most to the least frequent class in training.

    Args:
        per_class: ``f1`` and ``support`` by class name, in the order of the class ids.
        train_counts: Number of training images of each class, by class id.

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
    """Write right-aligned columns of text, one line per row, to the right of the axes."""
    right = 0.0  # In points.
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


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """One curve of a reliability diagram.

    Attributes:
        title: Its name in the legend.
        bins: Output of :func:`lmf_jax.evaluation.classification.scores.reliability_bins`.
        low: Lower end of the interval of the accuracy in each bin ``[bins]``.
        high: Upper end.
    """

    title: str
    bins: ReliabilityBins
    low: Float[np.ndarray, " bins"]
    high: Float[np.ndarray, " bins"]


@style.context(STYLE)
def draw_reliability(curves: Sequence[ReliabilityCurve]) -> Figure:
    """Draw a reliability diagram: accuracy against confidence, above a histogram of the bins.

    Args:
        curves: The curve of the probabilities in use, after that before calibration, if it differs.

    Returns:
        The figure; a calibrated model lies on the diagonal, an overconfident one below it. Bars are
        the intervals.
    """
    figure = Figure(figsize=(WIDTH, WIDTH))
    axes, count_axes = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle="--", linewidth=1.2)
    styles: list[dict[str, Any]] = [
        {"color": VERMILION, "marker": "s", "linestyle": ":", "markerfacecolor": "white"},
        {"color": BLUE, "marker": "o", "linestyle": "-"},
    ]
    for curve, look in zip(curves, styles[-len(curves) :], strict=True):
        _draw_reliability_curve(axes, count_axes, curve, look)
    axes.set_ylim(-0.02, 1.02)  # Whole markers at 0 and 1.
    axes.set_ylabel("Accuracy")
    axes.grid()
    figure.legend(loc="outside upper center", ncols=len(curves))
    count_axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    count_axes.set_ylim(bottom=0)
    count_axes.set_ylabel("Images")
    count_axes.set_xlabel("Probability of the predicted class")
    count_axes.set_xlim(0, 1)
    return figure


def _draw_reliability_curve(
    axes: Axes, count_axes: Axes, curve: ReliabilityCurve, look: Mapping[str, Any]
) -> None:
    bins, filled = curve.bins, curve.bins.counts > 0
    accuracy = bins.accuracy[filled]
    ends = [accuracy - curve.low[filled], curve.high[filled] - accuracy]
    axes.errorbar(
        bins.confidence[filled],
        accuracy,
        np.maximum(ends, 0),
        label=curve.title,
        markersize=5,
        elinewidth=1,
        **look,
    )
    count_axes.stairs(bins.counts, bins.edges, color=look["color"], linestyle=look["linestyle"])


@style.context(STYLE)
def draw_class_distribution(
    class_counts: Mapping[str, Sequence[int]],
    class_names: Sequence[str],
    margins: Sequence[float] | None = None,
) -> Figure:
    """Draw the number of images of each class in each part, and the LDAM margin of each class.

    The axis of the counts is logarithmic if the largest is more than ten times the smallest.

    Args:
        class_counts: Number of images of each class, by class id, for each part of the data.
        class_names: The ``C`` names by class id.
        margins: Margin of each class; None if a class has no training image.
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
        # Start below 1, so that a class with a single image still has a visible bar.
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
