"""Figure of the class distribution: the number of images of each class in each part.

It is drawn without pyplot, which has global state and may need a display.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from data.audit.audit import SplitAudit, format_ratio
from data.labels import PARTS
from data.storage import replacing
from lmf_jax.evaluation import figures

# The style of the report, but smaller, since there may be many classes.
STYLE: list[Any] = [
    *figures.STYLE,
    {
        "font.size": 9,
        "axes.titlesize": 9,
        "figure.titlesize": 11,
        "figure.constrained_layout.h_pad": 0.08,
        "figure.constrained_layout.w_pad": 0.08,
    },
]

BAR = 0.135
"""Height of a bar in inches, the height of the number at its end."""


@style.context(STYLE)
def save_class_figure(audits: Sequence[SplitAudit], title: str, path: Path) -> None:
    """Draw the images per class and part, one panel per split, and write them as PNG.

    The classes are ordered by their training images in the first split. The axis is logarithmic if
    the largest count is more than ten times the smallest. Equal audits give equal files.

    Args:
        audits: Audits of the splits of one dataset, from :func:`data.audit.audit.audit_split`.
        title: Title of the figure.
        path: File to write, in an existing folder.
    """
    with replacing(path) as file:
        draw_class_figure(audits, title).savefig(file, format="png", metadata={"Software": None})


@style.context(STYLE)
def draw_class_figure(audits: Sequence[SplitAudit], title: str) -> Figure:
    """Return the figure that :func:`save_class_figure` writes.

    Args:
        audits: Audits of the splits of one dataset.
        title: Title of the figure.
    """
    training = audits[0].class_counts["train"]
    names = sorted(training, key=lambda name: -training[name])
    labels = [textwrap.fill(name, 18, max_lines=3, placeholder="…") for name in names]
    figure = Figure(figsize=(2.2 + 2.6 * len(audits), 1.3 + 4 * BAR * len(names)))
    figure.suptitle(title)
    panels = figure.subplots(1, len(audits), sharex=True, sharey=True, squeeze=False)[0]
    _scale([count for audit in audits for count in _all_counts(audit)], panels[0])
    for axes, audit in zip(panels, audits, strict=True):
        _draw_split(axes, audit, names)
    panels[0].set_yticks(range(len(names)), labels)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    handles, parts = panels[0].get_legend_handles_labels()
    figure.legend(handles, parts, loc="outside lower center", ncols=len(PARTS))
    return figure


def _draw_split(axes: Axes, audit: SplitAudit, names: Sequence[str]) -> None:
    axes.set_title(f"{audit.split} split, imbalance ratio {format_ratio(audit.imbalance_ratio)}")
    left = axes.get_xlim()[0]
    for i, part in enumerate(PARTS):
        counts = [audit.class_counts[part][name] for name in names]
        middles = [row + (i - 1) / 4 for row in range(len(names))]  # the fourth bar is a gap
        axes.barh(middles, counts, height=0.25, color=figures.PART_COLORS[part], label=part)
        for middle, count in zip(middles, counts, strict=True):
            axes.annotate(
                str(count),
                xy=(
                    max(count, left),
                    middle,
                ),  # the 0 of an empty class is at the start of the axis
                xytext=(2, 0),
                textcoords="offset points",
                va="center_baseline",
                fontsize=7,
            )
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Images (log scale)" if axes.get_xscale() == "log" else "Images")
    axes.grid(axis="x")


def _all_counts(audit: SplitAudit) -> list[int]:
    return [count for counts in audit.class_counts.values() for count in counts.values()]


def _scale(counts: Sequence[int], axes: Axes) -> None:
    """Set the axis of the counts, with space for a number at the end of the longest bar."""
    smallest, largest = min(filter(None, counts), default=1), max(*counts, 1)
    if largest > 10 * smallest:
        left = 0.5 * smallest  # the bar of the smallest class stays visible
        axes.set_xscale("log")
        axes.set_xlim(left, largest * (largest / left) ** 0.2)
        axes.xaxis.set_major_locator(LogLocator())
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(0, 1.2 * largest)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:.0f}"))
