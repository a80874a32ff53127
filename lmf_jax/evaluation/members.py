"""Comparison of an ensemble with its members on the same images, for all tasks."""

from collections.abc import Mapping, Sequence
from typing import Any

from lmf_jax.evaluation.formatting import format_difference, format_fraction, format_interval
from lmf_jax.evaluation.statistics import PairedDifference


def describe_members(
    metric: str, scores: Sequence[float], difference: PairedDifference
) -> dict[str, Any]:
    """Return the entry ``members`` of the results of an ensemble, JSON-serializable.

    Args:
        metric: Name of a metric.
        scores: The metric of each member.
        difference: That of the ensemble less the mean of the members.
    """
    return {
        metric: list(scores),
        "difference": difference.difference,
        "interval": [difference.low, difference.high],
        "p_value": difference.p_value,
    }


def format_members(members: Mapping[str, Any], metric: str, title: str) -> str:
    """Format the output of :func:`describe_members` as two lines.

    Args:
        members: The entry.
        metric: Name of its metric.
        title: Title of the metric.
    """
    scores = members[metric]
    each = ", ".join(map(format_fraction, scores))
    interval = format_interval(members["interval"], format_difference)
    name = f"{title} of the models"
    return (
        f"{name:<23}  {each}; mean {format_fraction(sum(scores) / len(scores))}\n"
        f"ensemble less this mean  {format_difference(members['difference'])} {interval}, "
        f"p {members['p_value']:.4f}"
    )
