"""Comparison of an ensemble of models of several labels with its members."""

from typing import Any

import numpy as np
from jaxtyping import Float

from lmf_jax.evaluation.members import describe_members
from lmf_jax.evaluation.multilabel.scores import Labels, logits_of, score_labels
from lmf_jax.evaluation.multilabel.statistics import (
    compare_mean_average_precision,
    mean_difference,
)
from lmf_jax.evaluation.resampling import Groups

METRIC, TITLE = "mean_average_precision", "mAP"
"""Metric of the comparison, and its title."""


def compare_members(
    labels: Labels,
    probabilities: Float[np.ndarray, "members n labels"],
    groups: Groups | None = None,
) -> dict[str, Any] | None:
    """Compare the mAP of the mean probabilities with the mean mAP of the members.

    The ends of the interval are the means of those of the differences from each member, and p is
    the largest.

    Args:
        labels: 0, 1 or -1 for a missing label, ``[n, C]``.
        probabilities: Of each label by each member ``[M, n, C]``.
        groups: Patient of each image ``[n]``; None if all images are independent.

    Returns:
        See :func:`lmf_jax.evaluation.members.describe_members`; None if no label has images with
        and without it.
    """
    members = [logits_of(each) for each in probabilities]
    scores = [float(score_labels(labels, each).mean_average_precision) for each in members]
    if np.isnan(scores).any():
        return None
    ensemble = logits_of(probabilities.mean(axis=0))
    differences = [
        compare_mean_average_precision(labels, ensemble, each, groups=groups) for each in members
    ]
    return describe_members(METRIC, scores, mean_difference(differences))
