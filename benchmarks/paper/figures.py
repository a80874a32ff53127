"""Figures 1, 2 and 4 of the paper, drawn from plain data in the style of the report.

As in the paper, an error bar is the mean of several runs with its average absolute deviation, the
mean distance of the runs from their mean. It is not a confidence interval.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from statistics import mean
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from benchmarks.paper import printed
from lmf_jax.evaluation.figures import BLUE, INK, MUTED, SLATE, STYLE, VERMILION, WIDTH

# Several panels need more room between them than a figure of the report.
PANELS: list[Any] = [
    *STYLE,
    {"figure.constrained_layout.h_pad": 0.1, "figure.constrained_layout.w_pad": 0.08},
]

LOOKS = ((SLATE, "o"), (VERMILION, "D"))
"""Color and marker of each series: printed and ours."""

MacroF1 = Mapping[tuple[str, str, str], float]
"""Macro F1 in percent by (dataset, model, loss)."""


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of at least one value, and the average absolute deviation from it."""
    middle = mean(values)
    return middle, mean(abs(value - middle) for value in values)


@style.context(PANELS)
def draw_losses(series: Mapping[str, MacroF1]) -> Figure:
    """Draw Fig. 1: the macro F1 of every loss on every dataset, the mean over the models.

    Args:
        series: One or two series, by their name in the legend; they may be incomplete.

    Returns:
        The figure: a panel for each dataset, an error bar for each loss and series.
    """
    figure = Figure(figsize=(1.5 * WIDTH, 5.8))
    panels = figure.subplots(2, 2).flat
    looks = dict(zip(series, LOOKS, strict=False))
    for axes, (dataset, title) in zip(panels, printed.DATASETS.items(), strict=True):
        axes.set_title(title)
        here = [name for name in series if any(key[0] == dataset for key in series[name])]
        for i, name in enumerate(here):
            color, marker = looks[name]
            offset = 0.2 * (i - (len(here) - 1) / 2)
            _plot_losses(axes, dataset, series[name], name, offset, color=color, marker=marker)
        axes.set_xticks(range(len(printed.LOSSES)), printed.LOSSES.values())
        axes.set_xlim(-0.5, len(printed.LOSSES) - 0.5)
        axes.tick_params(axis="x", length=0)
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.grid(axis="y")
    figure.supylabel("Macro F1 in percent", fontsize=10, color=INK)
    note = "Mean over the models, with its average deviation"
    figure.supxlabel(note, fontsize=10, color=MUTED)
    _legend(figure, list(series))
    return figure


def _legend(figure: Figure, names: Sequence[str]) -> None:
    found: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    shown = [name for name in names if name in found]
    handles = [found[name] for name in shown]
    figure.legend(handles, shown, loc="outside upper center", ncols=len(shown))


def _plot_losses(
    axes: Axes, dataset: str, scores: MacroF1, name: str, offset: float, **look: str
) -> None:
    places, middles, deviations = [], [], []
    for place, loss in enumerate(printed.LOSSES):
        of_models = [scores[key] for key in scores if (key[0], key[2]) == (dataset, loss)]
        if of_models:
            middle, deviation = mean_and_deviation(of_models)
            places.append(place + offset)
            middles.append(middle)
            deviations.append(deviation)
    _error_bars(axes, places, middles, deviations, label=name, **look)


def _error_bars(
    axes: Axes,
    places: Sequence[float],
    middles: Sequence[float],
    deviations: Sequence[float],
    *,
    label: str,
    color: str,
    marker: str,
) -> None:
    axes.errorbar(
        places,
        middles,
        yerr=deviations,
        fmt=marker,
        color=color,
        markersize=6,
        elinewidth=1.6,
        capsize=4,
        capthick=1.6,
        label=label,
    )


@style.context(PANELS)
def draw_classes(classes: Mapping[str, Mapping[str, int]]) -> Figure:
    """Draw Fig. 2: the training images of every class, from the most frequent to the rarest.

    Args:
        classes: The images of each class, by dataset.

    Returns:
        The figure: a panel for each dataset; all count on one logarithmic axis.
    """
    rows = [len(counts) for counts in classes.values()]
    heights = [max(pair) for pair in zip(rows[::2], rows[1::2], strict=True)]
    figure = Figure(figsize=(1.5 * WIDTH, 1.6 + 0.3 * sum(heights)))
    panels = figure.subplots(2, 2, sharex=True, height_ratios=heights).flat
    everything = list(chain.from_iterable(counts.values() for counts in classes.values()))
    for i, (axes, (dataset, counts)) in enumerate(zip(panels, classes.items(), strict=True)):
        _draw_class_bars(axes, counts)
        axes.set_xlim(0.6 * min(everything), 2.8 * max(everything))
        axes.set_ylim(heights[i // 2] - 0.5, -0.5)  # equal thickness of all bars
        ratio = max(counts.values()) / min(counts.values())
        axes.set_title(printed.DATASETS[dataset])
        axes.annotate(
            f"imbalance ratio {ratio:.0f}",
            xy=(1, 0),
            xycoords="axes fraction",
            xytext=(-3, 5),
            textcoords="offset points",
            ha="right",
            color=VERMILION,
        )
    for axes in figure.axes[2:]:
        axes.set_xlabel("Training images (log scale)")
    return figure


def _draw_class_bars(axes: Axes, counts: Mapping[str, int]) -> None:
    names = sorted(counts, key=lambda name: -counts[name])
    sizes = [counts[name] for name in names]
    axes.barh(range(len(names)), sizes, height=0.66, color=BLUE)
    for row, size in enumerate(sizes):
        _write_beside(axes, f"{size:,}", (size, row), points=3, va="center_baseline")
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelbottom=True)
    axes.grid(axis="x")


def _write_beside(
    axes: Axes, text: str, point: tuple[float, float], *, points: int, va: str = "center"
) -> None:
    """Write a text that many typographic points to the right of a point of the data."""
    axes.annotate(text, xy=point, xytext=(points, 0), textcoords="offset points", va=va, fontsize=9)


@style.context(STYLE)
def draw_settings(settings: Mapping[str, Sequence[float]]) -> Figure:
    """Draw Fig. 4: the macro F1 of the runs of every setting of alpha and beta.

    Args:
        settings: The validation macro F1 of the runs of each setting, at least one, in percent, in
            the order of the weight that varies.

    Returns:
        The figure: a point for every run, next to their mean with its deviation.
    """
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.subplots()
    bars = [mean_and_deviation(values) for values in settings.values()]
    for place, values in enumerate(settings.values()):
        label = "one run, by rising weight" if place == 0 else None
        # Side by side, so that equal values stay visible.
        left = np.linspace(-0.35, -0.05, len(values)) if len(values) > 1 else [-0.2]
        axes.plot(np.add(place, left), values, "o", color=MUTED, ms=4, label=label)
    middles, deviations = zip(*bars, strict=True)
    places = [place + 0.08 for place in range(len(bars))]
    label = "mean and average deviation"
    _error_bars(axes, places, middles, deviations, label=label, color=VERMILION, marker="D")
    for right, middle, deviation in zip(places, middles, deviations, strict=True):
        _write_beside(axes, f"{middle:.2f}\n± {deviation:.2f}", (right, middle), points=10)
    names = [f"Setting {name}".replace(": ", "\n") for name in settings]
    for word, letter in (("alpha", "\N{GREEK SMALL LETTER ALPHA}"), ("beta", "β")):
        names = [name.replace(word, letter) for name in names]
    axes.set_xticks(range(len(bars)), names)
    axes.set_xlim(-0.5, len(bars) - 0.3)
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("Validation macro F1 in percent")
    axes.grid(axis="y")
    figure.legend(loc="outside upper center", ncols=2)
    return figure
