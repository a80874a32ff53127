"""Counts of true and false positives at every threshold that separates two images."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class Cuts(NamedTuple):
    """Counts at each threshold, from the lowest, at which every image is positive, to none.

    Attributes:
        thresholds: Increasing thresholds, in the middle between two neighboring probabilities.
        true_positives: Images of the class with at least this probability.
        false_positives: Images of other classes with at least this probability.
        positives: Number of images of the class.
        negatives: Number of images of other classes.
    """

    thresholds: Float[np.ndarray, " cuts"]
    true_positives: Int[np.ndarray, " cuts"]
    false_positives: Int[np.ndarray, " cuts"]
    positives: int
    negatives: int

    @property
    def false_negatives(self) -> Int[np.ndarray, " cuts"]:
        """Images of the class below each threshold."""
        return self.positives - self.true_positives

    @property
    def true_negatives(self) -> Int[np.ndarray, " cuts"]:
        """Images of other classes below each threshold."""
        return self.negatives - self.false_positives

    @property
    def sensitivity(self) -> Float[np.ndarray, " cuts"]:
        """Fraction of the class at or above each threshold; 0 without such images."""
        return self.true_positives / max(self.positives, 1)

    @property
    def specificity(self) -> Float[np.ndarray, " cuts"]:
        """Fraction of other classes below each threshold; 0 without such images."""
        return self.true_negatives / max(self.negatives, 1)

    def ppv(self, prevalence: float) -> Float[np.ndarray, " cuts"]:
        """Positive predictive value at a prevalence; 0 where no image is positive."""
        true = prevalence * self.sensitivity
        false = (1 - prevalence) * self.false_positives / max(self.negatives, 1)
        return true / np.where(true + false > 0, true + false, 1)


def cut_everywhere(is_class: Bool[np.ndarray, " n"], probability: Float[np.ndarray, " n"]) -> Cuts:
    """Count true and false positives at every threshold that makes a difference.

    Args:
        is_class: Whether each image is of the class ``[n]``.
        probability: Predicted probability of the class ``[n]``, in [0, 1].

    Returns:
        One cut more than there are distinct probabilities. A threshold lies in the middle of its
        gap, so that rounding in another batch moves no image across it.

    Raises:
        ValueError: If there is no image, or a probability is not in [0, 1].
    """
    check_probabilities(is_class, probability)
    values, rank = np.unique(probability.astype(np.float64), return_inverse=True)
    positives = np.bincount(rank[is_class], minlength=len(values))
    negatives = np.bincount(rank[~is_class], minlength=len(values))
    below, above = np.append(0.0, values), np.append(values, 1.0)
    middle = (below + above) / 2
    thresholds = np.where(middle > below, middle, above)
    thresholds[0] = middle[0]
    if values[-1] == 1.0:
        thresholds[-1] = np.nextafter(1.0, 2.0)  # Nothing is positive, not even a probability of 1.
    return Cuts(
        thresholds=thresholds,
        true_positives=np.append(positives[::-1].cumsum()[::-1], 0),
        false_positives=np.append(negatives[::-1].cumsum()[::-1], 0),
        positives=int(positives.sum()),
        negatives=int(negatives.sum()),
    )


def check_probabilities(
    is_class: Bool[np.ndarray, " n"], probability: Float[np.ndarray, " n"]
) -> None:
    """Raise ValueError unless there are images, each with a probability in [0, 1]."""
    if len(is_class) == 0:
        raise ValueError("There are no images; expected at least one.")
    if not ((probability >= 0) & (probability <= 1)).all():  # Also refuses NaN.
        raise ValueError("A probability is not in [0, 1]; expected calibrated probabilities.")
