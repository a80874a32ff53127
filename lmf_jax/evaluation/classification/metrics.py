"""Accuracy, precision, recall, F1 and MCC of a confusion matrix.

Confusion matrices of batches, devices or resamples are summed, and the metrics are computed once
from the sum; metrics are never averaged over batches.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Integer, Num

Fraction = Float[Array | np.ndarray, "*batch"] | np.floating
FractionPerClass = Float[Array | np.ndarray, "*batch classes"]
CountPerClass = Num[Array | np.ndarray, "*batch classes"]
Numbers = Num[Array | np.ndarray, "..."] | np.number


class ClassificationMetrics(NamedTuple):
    """Metrics of one confusion matrix; fractions in [0, 1], ``mcc`` in [-1, 1].

    ``support`` is in examples.
    """

    accuracy: Fraction
    balanced_accuracy: Fraction
    mcc: Fraction
    macro_precision: Fraction
    macro_recall: Fraction
    macro_f1: Fraction
    precision: FractionPerClass
    recall: FractionPerClass
    f1: FractionPerClass
    support: CountPerClass


def confusion_matrix(
    labels: Integer[ArrayLike, "*batch"],
    predictions: Integer[ArrayLike, "*batch"],
    *,
    num_classes: int,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Int[Array, "{num_classes} {num_classes}"]:
    """Count how often each true class was predicted as each class.

    It works under ``jit`` and ``vmap`` with ``num_classes`` static. A traced function cannot check
    values, so entries with a label or prediction outside ``[0, num_classes)`` are left out; the sum
    of the matrix is the number of counted entries.

    Args:
        labels: Class ids ``[...]``: ``[n]`` for images, ``[B, H, W]`` for pixels.
        predictions: Predicted class ids, in the shape of ``labels``.
        num_classes: Number of classes ``C`` of the dataset.
        where: Mask in the shape of ``labels`` or of its leading axes, True where an entry counts.

    Returns:
        Counts ``[C, C]``: row = true class, column = predicted class.

    Raises:
        ValueError: If the shapes do not match.
    """
    # Narrow integers such as uint8 would overflow in the cell index.
    labels = jnp.asarray(labels).astype(jnp.int32)
    predictions = jnp.asarray(predictions).astype(jnp.int32)
    if labels.shape != predictions.shape:
        raise ValueError(
            f"labels have shape {labels.shape} and predictions {predictions.shape}; expected one "
            "prediction for each label."
        )
    counted = (labels >= 0) & (labels < num_classes)
    counted &= (predictions >= 0) & (predictions < num_classes)
    if where is not None:
        counted &= _expand_mask(where, labels.shape)
    num_cells = num_classes**2
    # bincount ignores indices beyond its length.
    cells = jnp.where(counted, labels * num_classes + predictions, num_cells)
    return jnp.bincount(cells.ravel(), length=num_cells).reshape(num_classes, num_classes)


def classification_metrics(
    confusion: Num[Array | np.ndarray, "*batch classes classes"],
) -> ClassificationMetrics:
    """Compute accuracy, MCC, and precision, recall and F1 per class and as macro means.

    A metric with a zero denominator is 0, as with ``zero_division=0`` in scikit-learn. The macro
    means include all classes of the matrix, even absent or never predicted ones, so that they are
    comparable between parts of the data and resamples. (scikit-learn does so with
    ``labels=range(C)``; by default it leaves out classes that are neither present nor predicted.)
    All metrics of an empty matrix are 0.

    Balanced accuracy is the mean recall of the classes that have an example. MCC is the correlation
    of true and predicted classes, R_K of Gorodkin, "Comparing two K-category assignments by a
    K-category correlation coefficient", 2004, Eq. 8: 1 if all predictions are correct, exactly 0 if
    all labels or all predictions are of one class.

    Args:
        confusion: Counts or weights ``[..., C, C]``, row = true class. NumPy arrays give float64
            results; JAX arrays give the default float type and work under ``jit`` and ``vmap``.

    Returns:
        The metrics ``[...]``; those per class have shape ``[..., C]``.
    """
    correct = confusion.diagonal(0, -2, -1)
    support = confusion.sum(axis=-1)
    predicted = confusion.sum(axis=-2)
    # If a denominator is zero, so is its numerator; replacing it by 1 gives 0.
    precision = correct / _or_one(predicted)
    recall = correct / _or_one(support)
    f1 = 2 * correct / _or_one(support + predicted)
    accuracy = correct.sum(axis=-1) / _or_one(support.sum(axis=-1))
    num_present = (support > 0).astype(recall.dtype).sum(axis=-1)
    return ClassificationMetrics(
        accuracy=accuracy,
        balanced_accuracy=recall.sum(axis=-1) / num_present.clip(min=1),
        mcc=_correlation(correct, support, predicted),
        macro_precision=precision.mean(axis=-1),
        macro_recall=recall.mean(axis=-1),
        macro_f1=f1.mean(axis=-1),
        precision=precision,
        recall=recall,
        f1=f1,
        support=support,
    )


def macro_f1(
    labels: Integer[np.ndarray, " n"],
    predictions: Integer[np.ndarray, "models n"],
    *,
    num_classes: int,
) -> Float[np.ndarray, " models"]:
    """Return the macro F1 of each of several models in float64.

    Args:
        labels: Class ids ``[n]``.
        predictions: Predicted class ids of each model ``[M, n]``.
        num_classes: Number of classes ``C`` of the dataset.
    """
    confusions = [confusion_matrix(labels, row, num_classes=num_classes) for row in predictions]
    return np.array([classification_metrics(np.asarray(matrix)).macro_f1 for matrix in confusions])


def predicted_classes(logits: Float[np.ndarray, "n classes"]) -> Int[np.ndarray, " n"]:
    """Return the class of the largest logit, the first one of equal logits.

    Args:
        logits: Scores ``[n, C]``.

    Returns:
        Class ids ``[n]``.

    Raises:
        ValueError: If a logit is NaN; argmax would return a class nevertheless.
    """
    num_undefined = int(np.isnan(logits).any(axis=-1).sum())
    if num_undefined:
        raise ValueError(
            f"The logits of {num_undefined} of {len(logits)} examples contain NaN and predict no "
            "class; check for diverged training or broken weights."
        )
    return logits.argmax(axis=-1)


def _correlation(
    correct: CountPerClass, support: CountPerClass, predicted: CountPerClass
) -> Fraction:
    """Compute MCC from sums of products of counts, without cancellation.

    The textbook form subtracts fractions from 1; for a constant classifier, it divides one rounding
    error by another. Here only integers are subtracted, and the covariance is exactly 0 whenever a
    variance is.
    """
    total = support.sum(axis=-1, keepdims=True)
    missed, false_alarms = support - correct, predicted - correct
    rejected = total - support - false_alarms
    # Fractions, because products of counts overflow JAX's int32.
    scale = _or_one(total)
    joint = (correct / scale) * (rejected / scale) - (missed / scale) * (false_alarms / scale)
    true_variance = ((support / scale) * ((total - support) / scale)).sum(axis=-1)
    predicted_variance = ((predicted / scale) * ((total - predicted) / scale)).sum(axis=-1)
    deviations = true_variance**0.5 * predicted_variance**0.5
    # Positive deviations are far above the minimum; a zero deviation has a zero numerator.
    return (joint.sum(axis=-1) / deviations.clip(min=np.finfo(np.float32).tiny)).clip(-1, 1)


def _or_one(denominators: Numbers) -> Numbers:
    """Replace 0 by 1."""
    return denominators + (denominators == 0).astype(denominators.dtype)


def _expand_mask(where: Bool[ArrayLike, "..."], shape: tuple[int, ...]) -> Bool[Array, "..."]:
    where = jnp.asarray(where)
    if where.shape != shape[: where.ndim]:
        raise ValueError(
            f"where has shape {where.shape} and labels {shape}; expected the shape of the labels "
            "or of their leading axes."
        )
    return where.reshape(where.shape + (1,) * (len(shape) - where.ndim))
