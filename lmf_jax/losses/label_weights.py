"""Margins and weights of multi-label data, from the counts of the training part.

A label has two classes, its absence and its presence. Their margins and weights are ``[C, 2]``, by
label and its value, so that ``weights[c, 1]`` belongs to the positive examples of label ``c``.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float64

from lmf_jax.losses.checks import ClassCounts, as_array
from lmf_jax.losses.class_weights import class_margins, effective_number_weights


def check_label_counts(
    positive_counts: ClassCounts, negative_counts: ClassCounts
) -> Float64[np.ndarray, "labels 2"]:
    """Return negative and positive counts in float64 ``[C, 2]``, by label and its value.

    A count may be 0; see :func:`check_both_values`.

    Args:
        positive_counts: Training examples with each label, ``[C]``.
        negative_counts: Training examples without each label, ``[C]``; where labels are missing,
            the two do not sum to the number of examples.

    Raises:
        ValueError: If they are not one finite number of at least 0 for each label.
        TypeError: If they are not numbers, or are traced: counts are constants of the dataset.
    """
    counts = {"positive_counts": positive_counts, "negative_counts": negative_counts}
    positive, negative = (_check_counts(name, values) for name, values in counts.items())
    if positive.shape != negative.shape:
        raise ValueError(
            f"There are {len(positive)} positive_counts and {len(negative)} negative_counts; "
            "expected one of each for every label."
        )
    return np.stack([negative, positive], axis=1)


def check_both_values(counts: Float64[np.ndarray, "labels 2"]) -> None:
    """Raise ValueError if a label has no positive or no negative training example."""
    for label, value in np.argwhere(counts == 0).tolist():
        raise ValueError(
            f"Label {label} has no {('negative', 'positive')[value]} training example, so its "
            "margin or weight would be infinite; leave the label out or give it examples."
        )


def _check_counts(name: str, values: ClassCounts) -> Float64[np.ndarray, " labels"]:
    if isinstance(values, jax.core.Tracer):
        raise TypeError(
            f"{name} is traced by jit, grad or vmap; compute margins and weights outside and pass "
            "them in."
        )
    try:
        counts = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} are {values!r}; expected one number for each label.") from None
    if counts.ndim != 1 or len(counts) == 0:
        raise ValueError(f"{name} has shape {counts.shape}; expected one count for each label.")
    for label in np.flatnonzero(~np.isfinite(counts) | (counts < 0)):
        raise ValueError(
            f"{name} holds {counts[label]:g} for label {label}; expected a finite number of at "
            "least 0."
        )
    return counts


def check_label_matrix(
    name: str, values: ArrayLike | None, logits: Array
) -> Float[Array, "labels 2"]:
    """Return margins or weights ``[C, 2]`` in the dtype of the logits; all 1 if not given.

    Raises:
        TypeError: If they are not numbers.
        ValueError: If there are not two for each label, or one is negative or not finite.
    """
    num_labels = logits.shape[-1]
    if values is None:
        return jnp.ones((num_labels, 2), logits.dtype)
    values = as_array(name, values)
    if values.shape != (num_labels, 2):
        raise ValueError(
            f"{name} has shape {values.shape} and logits {logits.shape}; expected [C, 2], a number "
            f"for each of the two values of the {num_labels} labels."
        )
    if not isinstance(values, jax.core.Tracer):
        numbers = np.asarray(values, np.float64)
        for label, value in np.argwhere(~np.isfinite(numbers) | (numbers < 0)).tolist():
            raise ValueError(
                f"{name} holds {numbers[label, value]} for value {value} of label {label}; "
                "expected a finite number that is not negative."
            )
    return values.astype(logits.dtype)


def label_margins(
    positive_counts: ClassCounts, negative_counts: ClassCounts, *, max_margin: float = 0.5
) -> Float[Array, "labels 2"]:
    r"""Return the margins of LDAM per label, larger for rarer values.

    .. math:: \Delta_{cy} = C / n_{cy}^{1/4}

    with the constant :math:`C` chosen so that the largest margin of all labels is ``max_margin``.

    Args:
        positive_counts: Training examples with each label, ``[C]``.
        negative_counts: Training examples without each label, ``[C]``.
        max_margin: The largest margin, above 0.

    Returns:
        Margins ``[C, 2]``, by label and its value, in units of the logits before scaling.

    Raises:
        ValueError: If a count is not positive and finite, the lengths differ, or ``max_margin`` is
            not positive.

    Reference:
        Eq. (4) of Sadi et al., LMFLoss, 2022, with the two values of each label as classes.
    """
    counts = check_label_counts(positive_counts, negative_counts)
    check_both_values(counts)
    return class_margins(counts.ravel(), max_margin=max_margin).reshape(-1, 2)


def positive_weights(
    positive_counts: ClassCounts, negative_counts: ClassCounts
) -> Float[Array, " labels"]:
    """Return the weights of the positive examples in weighted BCE, ``n_negative / n_positive``.

    Args:
        positive_counts: Training examples with each label, ``[C]``.
        negative_counts: Training examples without each label, ``[C]``.

    Returns:
        Weights ``[C]``; with them, both values of a label have the same total weight.

    Raises:
        ValueError: As :func:`label_margins`.
    """
    counts = check_label_counts(positive_counts, negative_counts)
    check_both_values(counts)
    return jnp.asarray(counts[:, 0] / counts[:, 1], jnp.result_type(float))


def label_effective_number_weights(
    positive_counts: ClassCounts,
    negative_counts: ClassCounts,
    *,
    effective_number_beta: float = 0.9999,
) -> Float[Array, "labels 2"]:
    r"""Return class-balanced weights :math:`(1 - b) / (1 - b^{n_{cy}})`, scaled to sum to ``2C``.

    Args:
        positive_counts: Training examples with each label, ``[C]``.
        negative_counts: Training examples without each label, ``[C]``.
        effective_number_beta: The paper's :math:`b`, in [0, 1).

    Returns:
        Weights ``[C, 2]``, by label and its value.

    Raises:
        ValueError: As :func:`label_margins`, or if ``effective_number_beta`` is outside [0, 1).

    Reference:
        Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, with the
        two values of each label as classes.
    """
    counts = check_label_counts(positive_counts, negative_counts)
    check_both_values(counts)
    weights = effective_number_weights(counts.ravel(), effective_number_beta=effective_number_beta)
    return weights.reshape(-1, 2)
