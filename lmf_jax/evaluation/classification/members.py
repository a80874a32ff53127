"""Comparison of an ensemble with its members on the same images."""

from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from lmf_jax.evaluation.classification.metrics import macro_f1, predicted_classes
from lmf_jax.evaluation.formatting import format_difference, format_fraction, format_interval
from lmf_jax.evaluation.resampling import Groups
from lmf_jax.evaluation.statistics import compare_macro_f1


def compare_members(
    labels: Integer[np.ndarray, " n"],
    probabilities: Float[np.ndarray, "members n classes"],
    groups: Groups | None = None,
) -> dict[str, Any]:
    """Compare the macro F1 of the mean probabilities with the mean macro F1 of the members.

    Args:
        labels: Class ids ``[n]``.
        probabilities: Class probabilities of each member ``[M, n, C]``.
        groups: Lesion or patient of each image ``[n]``; None if all images are independent.

    Returns:
        ``macro_f1`` of each member, ``difference`` (ensemble less the mean of the members) with its
        ``interval`` and the ``p_value`` of a permutation test, JSON-serializable.
    """
    labels = labels.astype(int)
    ensemble = predicted_classes(probabilities.mean(axis=0))
    members = np.stack([predicted_classes(each) for each in probabilities])
    num_classes = probabilities.shape[-1]
    difference = compare_macro_f1(
        labels, ensemble[None], members, num_classes=num_classes, groups=groups
    )
    return {
        "macro_f1": macro_f1(labels, members, num_classes=num_classes).tolist(),
        "difference": difference.difference,
        "interval": [difference.low, difference.high],
        "p_value": difference.p_value,
    }


def format_members(members: dict[str, Any]) -> str:
    """Format the output of :func:`compare_members` as two lines."""
    scores = members["macro_f1"]
    each = ", ".join(map(format_fraction, scores))
    interval = format_interval(members["interval"], format_difference)
    return (
        f"macro F1 of the models   {each}; mean {format_fraction(sum(scores) / len(scores))}\n"
        f"ensemble less this mean  {format_difference(members['difference'])} {interval}, "
        f"p {members['p_value']:.4f}"
    )
