"""Figures of ROC, precision-recall and decision curves, a panel for each class."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lmf_jax.evaluation.figures import BLUE, LIGHT_BLUE, MUTED, STYLE, VERMILION, WIDTH, wrap
from lmf_jax.evaluation.operating.curves import (
    Band,
    DecisionCurve,
    PrecisionRecallCurve,
    RocCurve,
)

_ROW_HEIGHT = 1.8
_LINE: dict[str, Any] = {"color": BLUE, "linewidth": 1.4}


@style.context(STYLE)
def draw_roc_curves(
    curves: Mapping[str, RocCurve], points: Mapping[str, Sequence[tuple[float, float]]]
) -> Figure:
    """Draw the ROC curve of each class with its band and its operating points.

    Args:
        curves: Curves by class name, at least one.
        points: False-positive rate and sensitivity of the operating points of classes that have
            some, by class name.
    """

    def draw(axes: Axes, name: str) -> None:
        curve = curves[name]
        axes.plot([0, 1], [0, 1], color=MUTED, linestyle="--", linewidth=0.8)
        _draw_band(axes, curve.band)
        axes.plot(curve.false_positive_rate, curve.sensitivity, **_LINE)
        for x, y in points.get(name, ()):
            axes.plot(x, y, "o", color=VERMILION, markersize=6, markeredgecolor="white")
        _set_unit_axes(axes)
        axes.text(
            0.97,
            0.05,
            f"pAUC {curve.partial_auc.value:.3f}",
            ha="right",
            fontsize=8.5,
            transform=axes.transAxes,
        )

    return _draw_panels(list(curves), draw, "False-positive rate", "Sensitivity")


@style.context(STYLE)
def draw_precision_recall_curves(curves: Mapping[str, PrecisionRecallCurve]) -> Figure:
    """Draw the precision-recall curve of each class with its band.

    Args:
        curves: Curves by class name, at least one; a dashed line is the prevalence.
    """

    def draw(axes: Axes, name: str) -> None:
        curve = curves[name]
        axes.axhline(curve.prevalence, color=MUTED, linestyle="--", linewidth=0.8)
        _draw_band(axes, curve.band)
        axes.plot(curve.recall, curve.precision, **_LINE)
        _set_unit_axes(axes)

    return _draw_panels(list(curves), draw, "Recall (sensitivity)", "Precision (PPV)")


@style.context(STYLE)
def draw_decision_curves(curves: Mapping[str, DecisionCurve]) -> Figure:
    """Draw the net benefit of each class with its band.

    Args:
        curves: Curves by class name, at least one; the dashed line calls every image positive.
    """

    def draw(axes: Axes, name: str) -> None:
        curve = curves[name]
        largest = max(curve.treat_all[0], curve.net_benefit.max(), 0.01)
        axes.plot(curve.thresholds, curve.treat_all, color=MUTED, linestyle="--", linewidth=0.8)
        axes.axhline(0, color=MUTED, linewidth=0.8)
        _draw_band(axes, curve.band)
        axes.plot(curve.thresholds, curve.net_benefit, **_LINE)
        axes.set_xlim(0, 1)
        axes.set_ylim(-0.25 * largest, 1.15 * largest)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value + 0.0:g}"))

    return _draw_panels(list(curves), draw, "Threshold probability", "Net benefit", same_axes=False)


def _draw_band(axes: Axes, band: Band) -> None:
    axes.fill_between(band.x, band.low, band.high, color=LIGHT_BLUE, alpha=0.5, linewidth=0)


def _set_unit_axes(axes: Axes) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])


def _draw_panels(
    names: Sequence[str],
    draw: Callable[[Axes, str], None],
    x_label: str,
    y_label: str,
    *,
    same_axes: bool = True,
) -> Figure:
    """Draw a panel for each class, two in a row."""
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(WIDTH, 0.7 + _ROW_HEIGHT * rows * (1 if columns == 2 else 1.8)))
    panels = figure.subplots(rows, columns, sharex=True, sharey=same_axes, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        draw(axes, name)
        axes.grid()
        axes.set_title(wrap(name, 26, lines=1), fontsize=10)
        axes.tick_params(labelsize=8.5)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
        panels[len(names) - columns].tick_params(labelbottom=True)
    figure.supxlabel(x_label, fontsize=10)
    figure.supylabel(y_label, fontsize=10)
    return figure
