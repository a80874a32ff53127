"""Figures of a segmentation report, each drawn from plain data in the common style."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
from jaxtyping import Float, Integer, UInt8
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lmf_jax.evaluation.figures import (
    BLUE,
    INK,
    LIGHT_BLUE,
    SLATE,
    STYLE,
    VERMILION,
    WIDTH,
    rows_figure,
    wrap,
)
from lmf_jax.evaluation.outlines import draw_image, draw_outline

POINTS = ((BLUE, "o"), (VERMILION, "^"), (SLATE, "s"), (LIGHT_BLUE, "D"))
"""Color and marker of each class, repeated for more than four classes."""

OUTLINES = ("#f0e442", "#56b4e9", "#ff8c42", "#7be0b0")
"""Light colors, which are visible on tissue and on black."""

CASES_PER_BIN = 12
"""Minimum number of cases in a bin of the line of medians; fewer would show single cases."""
MAX_BINS = 6


@dataclass(frozen=True)
class Overlay:
    """An image with its true and its predicted label map.

    Attributes:
        title: Title of the image.
        image: RGB ``[height, width, 3]``.
        labels: True class of every pixel ``[height, width]``.
        prediction: Predicted class of every pixel.
    """

    title: str
    image: UInt8[np.ndarray, "height width 3"]
    labels: UInt8[np.ndarray, "height width"]
    prediction: UInt8[np.ndarray, "height width"]


@style.context(STYLE)
def draw_dsc_distribution(
    dsc: Float[np.ndarray, "n classes"], class_names: Sequence[str]
) -> Figure:
    """Draw the DSC of every case as a point in the row of its class, over a box of the quartiles.

    Args:
        dsc: DSC of each case and class ``[n, C]``, in [0, 1].
        class_names: Names of the columns of ``dsc``.

    Returns:
        The figure, whose height grows with the number of classes.
    """
    num_classes = len(class_names)
    per_row = 1.8 / num_classes if num_classes < 3 else float(np.clip(8 / num_classes, 0.4, 0.85))
    figure, axes = rows_figure(class_names, per_row=per_row)
    spread = np.random.default_rng(0).uniform(
        -0.32, 0.32, dsc.shape
    )  # Spread the points vertically.
    for row, values in enumerate(dsc.T):
        opacity = float(np.clip(40 / len(values), 0.15, 0.6))
        axes.plot(values, row + spread[:, row], "o", color=BLUE, markersize=4, alpha=opacity, mew=0)
    axes.boxplot(
        list(dsc.T),
        positions=range(dsc.shape[1]),
        orientation="horizontal",
        widths=0.5,
        showfliers=False,
        manage_ticks=False,
        boxprops={"color": INK, "linewidth": 1.2},
        whiskerprops={"color": INK, "linewidth": 1},
        capprops={"linewidth": 0},
        medianprops={"color": VERMILION, "linewidth": 2.2},
    )
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("DSC of a case")
    axes.grid(axis="x")
    return figure


@style.context(STYLE)
def draw_dsc_by_size(
    dsc: Float[np.ndarray, "n classes"],
    sizes: Integer[np.ndarray, "n classes"],
    class_names: Sequence[str],
    unit: str,
) -> Figure:
    """Draw the DSC of every case against the true size of its object, and medians over the sizes.

    Args:
        dsc: DSC of each case and class ``[n, C]``, in [0, 1].
        sizes: True size of each class in each case ``[n, C]``; cases of size 0 are left out.
        class_names: Names of the columns.
        unit: "pixels" or "voxels".
    """
    legend_rows = -(-len(class_names) // 3)
    figure = Figure(figsize=(WIDTH, 4.0 + 0.2 * legend_rows))
    axes = figure.subplots()
    points = islice(cycle(POINTS), len(class_names))
    columns = zip(class_names, dsc.T, sizes.T, points, strict=True)
    for name, values, size, (color, marker) in columns:
        present = size > 0
        label = wrap(name, 24, lines=1)
        _plot_by_size(axes, size[present], values[present], label, color, marker)
    _scale_sizes(axes, sizes)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(f"True size of the object in {unit}")
    axes.set_ylabel("DSC of a case")
    axes.grid(axis="y")
    if len(class_names) > 1:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure


def _scale_sizes(axes: Axes, sizes: Integer[np.ndarray, "n classes"]) -> None:
    """Use a logarithmic axis with plain numbers: objects have from ten to a million voxels."""
    positive = sizes[sizes > 0]
    is_wide = positive.size > 0 and positive.max() > 100 * positive.min()
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1,) if is_wide else (1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _plot_by_size(
    axes: Axes,
    size: Integer[np.ndarray, " n"],
    dsc: Float[np.ndarray, " n"],
    name: str,
    color: str,
    marker: str,
) -> None:
    opacity = float(np.clip(80 / max(len(size), 1), 0.2, 0.7))
    axes.plot(size, dsc, marker, color=color, markersize=4.5, alpha=opacity, mew=0)
    axes.plot([], [], marker, color=color, markersize=5, label=name)  # Opaque in the legend.
    bins = min(MAX_BINS, len(size) // CASES_PER_BIN)
    if bins > 1:
        order = np.array_split(np.argsort(size, kind="stable"), bins)
        middles = [np.median(size[indices]) for indices in order]
        medians = [np.median(dsc[indices]) for indices in order]
        (line,) = axes.plot(middles, medians, color=color, linewidth=2)
        line.set_path_effects([withStroke(linewidth=4, foreground="white")])


@style.context(STYLE)
def draw_overlays(overlays: Sequence[Overlay], class_names: Sequence[str]) -> Figure:
    """Draw images in two columns with the outlines of truth (solid) and prediction (dashed).

    With one foreground class, the truth is white and the prediction yellow; with several, each
    class has one color for both.

    Args:
        overlays: The images, at least one.
        class_names: Names by class id; the background comes first and gets no outline.

    Returns:
        The figure, whose height grows with the number of images.
    """
    rows = -(-len(overlays) // 2)
    side = WIDTH / 2
    heights = [
        max(o.image.shape[0] / o.image.shape[1] for o in overlays[2 * row : 2 * row + 2])
        for row in range(rows)
    ]
    legend_height = 0.4 + 0.2 * (len(class_names) - 1)
    figure = Figure(figsize=(WIDTH, legend_height + sum(side * h + 0.4 for h in heights)))
    grid = figure.subplots(rows, 2, squeeze=False, height_ratios=heights).ravel()
    colors = _outline_colors(len(class_names))
    for axes, overlay in zip(grid, overlays, strict=False):
        draw_image(axes, overlay.image)
        axes.set_title(overlay.title, fontsize=8)
        for class_id, (true, predicted) in enumerate(colors, start=1):
            draw_outline(axes, overlay.labels == class_id, true)
            draw_outline(axes, overlay.prediction == class_id, predicted, "dashed")
    for axes in grid[len(overlays) :]:
        axes.set_visible(False)
    figure.legend(
        handles=_legend(class_names[1:], colors), loc="outside lower center", ncols=2, fontsize=8
    )
    return figure


def _outline_colors(num_classes: int) -> list[tuple[str, str]]:
    """Return the colors of truth and prediction of each foreground class."""
    if num_classes == 2:
        return [("white", OUTLINES[0])]
    return [(color, color) for color in islice(cycle(OUTLINES), num_classes - 1)]


def _legend(names: Sequence[str], colors: Sequence[tuple[str, str]]) -> list[Line2D]:
    edge = [withStroke(linewidth=2.6, foreground=INK)]
    lines = []
    for name, (true, predicted) in zip(names, colors, strict=True):
        name = wrap(name, 24, lines=1)
        lines.append(Line2D([], [], color=true, path_effects=edge, label=f"{name}, truth"))
        lines.append(
            Line2D([], [], color=predicted, ls="--", path_effects=edge, label=f"{name}, predicted")
        )
    return lines
