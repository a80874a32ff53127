"""Intervals of the accuracy in each bin of a reliability diagram."""

import numpy as np
from jaxtyping import Float, Integer
from scipy import special

from lmf_jax.evaluation.calibration_error import design_effect
from lmf_jax.evaluation.classification.scores import calibration
from lmf_jax.evaluation.resampling import LEVEL, Groups


def accuracy_intervals(
    labels: Integer[np.ndarray, " n"],
    probabilities: Float[np.ndarray, "n classes"],
    *,
    groups: Groups | None = None,
    level: float = LEVEL,
) -> Float[np.ndarray, "2 bins"]:
    """Compute the Wilson interval of the accuracy in each bin of the largest probability.

    With groups, the number of examples is divided by the design effect, since examples of one
    lesion or patient are not independent.

    Args:
        labels: Class ids ``[n]``.
        probabilities: Class probabilities ``[n, C]``.
        groups: Lesion or patient of each example ``[n]``; None if all are independent.
        level: Nominal coverage, in (0, 1).

    Returns:
        The ends for the bins of :func:`lmf_jax.evaluation.classification.scores.reliability_bins`,
        in [0, 1]; 0 and 1 for an empty bin.
    """
    calibrated = calibration(labels, probabilities)
    in_bin, correct = (
        np.asarray(values, float) for values in (calibrated.in_bin, calibrated.correct)
    )
    counts = in_bin.sum(axis=1)
    accuracy = in_bin @ correct / counts.clip(min=1)
    n = counts / design_effect(correct - accuracy @ in_bin, groups)
    z = special.ndtri((1 + level) / 2)
    center = (n * accuracy + z**2 / 2) / (n + z**2)
    half = z * np.sqrt(n * accuracy * (1 - accuracy) + z**2 / 4) / (n + z**2)
    return np.clip([center - half, center + half], 0, 1)
