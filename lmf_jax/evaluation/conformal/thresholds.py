"""Class-conditional conformal thresholds of probabilities.

A class is in the prediction set of an image if its probability is at least the threshold of the
class. The threshold is a quantile of the probability that calibration images of the class give to
it, so that the set of a new image of the class contains the class with at least the stated level
(split conformal prediction with one category per class: Vovk, "Conditional validity of inductive
conformal predictors", 2012; the score is one minus the probability).

Images of one lesion or patient are not exchangeable with others. Therefore each of the K lesions or
patients that have images of the class gets the weight 1 / (K + 1), divided equally among these
images, and the remaining 1 / (K + 1) counts as a new image that no threshold includes (Lee, Barber
and Willett, "Distribution-free inference with hierarchical data", 2023; Dunn, Wasserman and Ramdas,
"Distribution-free prediction sets for two-layer hierarchical models", 2022). Without groups this is
the usual quantile, the ``ceil(level * (K + 1))``-th largest probability.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Bool, Float, Int

from lmf_jax.evaluation.resampling import Groups, unit_codes

_ROUNDING = 1e-9
"""Relative error of a sum of weights; without it, exactly sufficient weights could be too few."""


@dataclass(frozen=True)
class Threshold:
    """Threshold of one class.

    Attributes:
        value: Smallest probability with which the class is in a set, in [0, 1]; 0 includes it
            always.
        units: Number of independent units ``K`` that it was calibrated on.
        promised: Whether these are enough for the level.
    """

    value: float
    units: int
    promised: bool


@dataclass(frozen=True)
class SetThresholds:
    """Thresholds of all classes at one level.

    Attributes:
        level: Coverage that is promised for each promised class, in (0, 1).
        classes: The threshold of each class, by class id.
        pooled: The threshold of all classes together.
    """

    level: float
    classes: tuple[Threshold, ...]
    pooled: Threshold

    def contains(
        self, probabilities: Float[np.ndarray, "n classes"]
    ) -> Bool[np.ndarray, "n classes"]:
        """Return whether the set of each image contains each class ``[n, C]``.

        Args:
            probabilities: Calibrated probabilities ``[n, C]``.

        Raises:
            ValueError: If a probability is NaN or outside [0, 1], or there is another number of
                classes.
        """
        _check_probabilities(probabilities)
        if probabilities.shape[-1] != len(self.classes):
            raise ValueError(
                f"There are probabilities of {probabilities.shape[-1]} classes; expected those of "
                f"the {len(self.classes)} classes of the thresholds."
            )
        return probabilities >= np.array([threshold.value for threshold in self.classes])


def units_needed(level: float) -> int:
    """Return the smallest number of units ``K`` with ``(K + 1) * (1 - level) >= 1``.

    With fewer, even the smallest probability of the calibration images is no lower bound for a new
    image at this level.

    Args:
        level: Coverage, in (0, 1), taken as the decimal number that it is printed as.

    Raises:
        ValueError: If the level is not between 0 and 1.
    """
    _check_level(level)
    return math.ceil(1 / (1 - Fraction(str(float(level))))) - 1


def fit_sets(
    is_class: Bool[np.ndarray, "n classes"],
    probabilities: Float[np.ndarray, "n classes"],
    *,
    level: float,
    groups: Groups | None = None,
) -> SetThresholds:
    """Calibrate the thresholds of all classes.

    A class with fewer than :func:`units_needed` units is refused: its coverage is not promised, and
    it gets the lower one of two thresholds, its smallest probability in its own images and the
    pooled threshold, which ignores the classes. The former covers K / (K + 1) of the units on
    average. Thus thresholds never rise with the level, also where a class is refused at the higher
    one. With too few units of all classes together, the pooled threshold is 0.

    Args:
        is_class: Whether each calibration image has each class ``[n, C]``; one class per image, or
            several for multi-label data.
        probabilities: Calibrated probabilities ``[n, C]``, of images that the model was not trained
            on.
        level: Coverage, in (0, 1).
        groups: Lesion or patient of each image, see :func:`lmf_jax.evaluation.resampling.resample`.

    Raises:
        ValueError: If a probability is NaN or outside [0, 1], or the level is not between 0 and 1.
    """
    _check_probabilities(probabilities)
    codes = unit_codes(len(is_class), groups)
    image, _ = np.nonzero(is_class)
    pooled = _threshold(probabilities[is_class], codes[image], level)
    if not pooled.promised:
        pooled = Threshold(0.0, pooled.units, False)
    classes = []
    for column, probability in zip(is_class.T, probabilities.T, strict=True):
        threshold = class_threshold(column, probability, level=level, groups=groups)
        if not threshold.promised:
            threshold = Threshold(min(threshold.value, pooled.value), threshold.units, False)
        classes.append(threshold)
    return SetThresholds(level, tuple(classes), pooled)


def class_threshold(
    is_class: Bool[np.ndarray, " n"],
    probability: Float[np.ndarray, " n"],
    *,
    level: float,
    groups: Groups | None = None,
) -> Threshold:
    """Calibrate the threshold of one class.

    Args:
        is_class: Whether each calibration image has the class ``[n]``.
        probability: Its calibrated probability of the class ``[n]``.
        level: Coverage, in (0, 1).
        groups: Lesion or patient of each image, see :func:`fit_sets`.

    Returns:
        The threshold. If the units are too few for a promise, its value is the smallest probability
        of the images of the class, or 1 if there are none.

    Raises:
        ValueError: See :func:`fit_sets`.
    """
    _check_probabilities(probability)
    codes = unit_codes(len(is_class), groups)
    return _threshold(probability[is_class], codes[is_class], level)


def unit_shares(codes: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return one over the number of images in the unit of each image; each unit sums to 1.

    Args:
        codes: An integer for each image that is equal within a unit.
    """
    _, unit, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    return 1 / sizes[unit]


def _threshold(
    probability: Float[np.ndarray, " n"], codes: Int[np.ndarray, " n"], level: float
) -> Threshold:
    """Return the largest value that enough of the weight of the images is not below."""
    needed = units_needed(level)
    units = len(np.unique(codes))
    if units < needed:
        return Threshold(float(probability.min(initial=1.0)), units, False)
    order = np.argsort(-probability, kind="stable")
    covered = unit_shares(codes)[order].cumsum()
    required = level * (units + 1) * (1 - _ROUNDING)
    last = min(int(np.searchsorted(covered, required)), len(order) - 1)
    return Threshold(float(probability[order[last]]), units, True)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"The level is {level}; expected a number between 0 and 1, such as 0.9.")


def _check_probabilities(probabilities: Float[np.ndarray, "..."]) -> None:
    outside = ~((probabilities >= 0) & (probabilities <= 1))  # also True for NaN
    if outside.any():
        raise ValueError(
            f"{int(outside.sum())} probabilities are NaN or outside [0, 1]; expected calibrated "
            "probabilities of the classes."
        )
