"""Figures of a multi-label report: precision-recall curves and the calibration of all labels."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Integer
from matplotlib import style
from matplotlib.figure import Figure

from lmf_jax.evaluation.figures import BLUE, MUTED, SLATE, STYLE, WIDTH

NUM_BINS = 10
"""Number of bins of the calibration figure, with equally many probabilities each."""


@style.context(STYLE)
def draw_reliability(
    labels: Integer[np.ndarray, "n labels"],
    probabilities: Mapping[str, Float[np.ndarray, "n labels"]],
) -> Figure:
    """Draw the fraction of present labels against their mean probability, over all labels.

    Args:
        labels: 0, 1 or -1 for a missing label ``[n, C]``.
        probabilities: Of each label ``[n, C]``, by title; at most two.
    """
    figure = Figure(figsize=(WIDTH, 0.8 * WIDTH))
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle="--", linewidth=0.8)
    known = labels != -1
    for (title, values), color in zip(probabilities.items(), (SLATE, BLUE), strict=False):
        order = np.argsort(values[known], kind="stable")
        bins = [part for part in np.array_split(order, NUM_BINS) if len(part)]
        means = [values[known][part].mean() for part in bins]
        fractions = [(labels[known][part] == 1).mean() for part in bins]
        axes.plot(means, fractions, "o-", color=color, label=title, markersize=4)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_xlabel("Mean probability of a label")
    axes.set_ylabel("Fraction present")
    axes.grid()
    axes.legend(loc="upper left")
    return figure
