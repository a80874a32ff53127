"""Difference between the test of a run and a test on another dataset, and its causes.

Two populations differ in how frequent the classes are (the prevalence) and in how the images of one
class look. The first changes accuracy, precision and F1 even if every class is recognized as well
as before; the second changes the recall of the classes.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer

from lmf_jax.evaluation.classification.metrics import classification_metrics
from lmf_jax.evaluation.external import Change
from lmf_jax.evaluation.posterior import NEUTRAL, draw_cells, draw_confusions, unit_table
from lmf_jax.evaluation.resampling import LEVEL, Groups, percentile_interval


class Outcomes(NamedTuple):
    """Labels and predicted classes of one test.

    Attributes:
        labels: Class ids ``[n]``.
        predictions: Predicted class ids ``[n]``.
        groups: Lesion or patient of each image ``[n]``; None if all images are independent.
    """

    labels: Integer[np.ndarray, " n"]
    predictions: Integer[np.ndarray, " n"]
    groups: Groups | None


class Transfer(NamedTuple):
    """How a model changes from its own test to a test on another dataset.

    Only classes with images in both tests enter. The three parts of ``accuracy`` add up.

    Attributes:
        own_prevalence: Fraction of each class in the test of the run ``[C]``.
        other_prevalence: Fraction of each class in the other dataset ``[C]``.
        shared: Whether both tests have images of each class ``[C]``.
        accuracy: Accuracy on the images of the shared classes.
        by_prevalence: Accuracy that the test of the run would have with the prevalence of the other
            dataset, less its accuracy; no uncertainty is attached to it.
        within_classes: The remaining change of the accuracy, due to other recalls.
        balanced_accuracy: Mean recall of the shared classes.
        recall: Recall of each class; None for classes that are not shared.
    """

    own_prevalence: Float[np.ndarray, " classes"]
    other_prevalence: Float[np.ndarray, " classes"]
    shared: Bool[np.ndarray, " classes"]
    accuracy: Change
    by_prevalence: float
    within_classes: Change
    balanced_accuracy: Change
    recall: list[Change | None]


def explain_transfer(
    own: Outcomes, other: Outcomes, *, num_classes: int, level: float = LEVEL, seed: int = 0
) -> Transfer | None:
    """Compare the test of a run with a test of the same model on another dataset.

    The intervals are for the choice of the images, lesions or patients of both tests, which are
    independent, by the draws of :mod:`lmf_jax.evaluation.posterior`.

    Args:
        own: The test of the run.
        other: The test on the other dataset.
        num_classes: Number of classes ``C``.
        level: Nominal coverage of the intervals, in (0, 1).
        seed: Seed of the random draws.

    Returns:
        The changes; None if the tests share no class.

    Raises:
        ValueError: If a test has no image, or a label or prediction is not a class id.
    """
    counts = [np.bincount(test.labels, minlength=num_classes) for test in (own, other)]
    shared = (counts[0] > 0) & (counts[1] > 0)
    if not shared.any():
        return None
    prevalence = [np.where(shared, count, 0) / count[shared].sum() for count in counts]
    rng = np.random.default_rng(seed)
    # Rows: the observed recalls of each test, then the draws.
    recalls = [_recalls(test, num_classes, rng) for test in (own, other)]
    at_other = recalls[0] @ prevalence[1]
    accuracies = [recall @ weight for recall, weight in zip(recalls, prevalence, strict=True)]
    balanced = [recall[:, shared].mean(axis=1) for recall in recalls]
    return Transfer(
        own_prevalence=counts[0] / counts[0].sum(),
        other_prevalence=counts[1] / counts[1].sum(),
        shared=shared,
        accuracy=_change(accuracies[0], accuracies[1], level),
        by_prevalence=float(at_other[0] - accuracies[0][0]),
        within_classes=_change(at_other, accuracies[1], level),
        balanced_accuracy=_change(balanced[0], balanced[1], level),
        recall=[
            _change(recalls[0][:, c], recalls[1][:, c], level) if shared[c] else None
            for c in range(num_classes)
        ],
    )


def _recalls(
    test: Outcomes, num_classes: int, rng: np.random.Generator
) -> Float[np.ndarray, "rows classes"]:
    """Return the observed recalls of a test and, in further rows, draws of its expected ones."""
    table = unit_table(
        test.labels, test.predictions[None], num_classes=num_classes, groups=test.groups
    )
    confusion = np.tensordot(table.repeats, table.cells[:, 0], axes=1)
    drawn = draw_confusions(draw_cells(table, rng)[:, 0], confusion, table.unit_size, NEUTRAL, rng)
    matrices = np.concatenate([confusion[None].astype(float), drawn])
    return np.asarray(classification_metrics(matrices).recall)


def _change(
    own: Float[np.ndarray, " rows"], other: Float[np.ndarray, " rows"], level: float
) -> Change:
    difference = other - own
    low, high = percentile_interval(difference[1:], level=level)
    observed = float(difference[0])
    return Change(
        float(own[0]),
        float(other[0]),
        observed,
        min(float(low), observed),
        max(float(high), observed),
    )
