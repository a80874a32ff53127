"""Comparison of an ensemble with its members on the same images."""

from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from lmf_jax.evaluation.classification.metrics import macro_f1, predicted_classes
from lmf_jax.evaluation.members import describe_members
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
    scores = macro_f1(labels, members, num_classes=num_classes).tolist()
    return describe_members("macro_f1", scores, difference)
