"""Margins and weights of the classes, from the class counts of the training part."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lmf_jax.losses.checks import (
    ClassCounts,
    check_below_one,
    check_class_counts,
    check_positive,
)


def class_margins(
    class_counts: ClassCounts, *, max_margin: float = 0.5
) -> Float[Array, " classes"]:
    r"""Return the margins of LDAM, larger for rarer classes.

    .. math:: \Delta_j = C / n_j^{1/4}

    with the constant :math:`C` chosen so that the largest margin is ``max_margin``.

    Args:
        class_counts: Training examples per class, ``[C]``, by class id.
        max_margin: Margin of the rarest class, above 0; the authors of LDAM and of LMF use 0.5.

    Returns:
        Margins ``[C]``, in units of the logits before scaling.

    Raises:
        ValueError: If a count is not a number, not positive or there are fewer than two classes,
            or if ``max_margin`` is not positive.

    Reference:
        Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss,
        NeurIPS 2019; Eq. (4) of Sadi et al., LMFLoss, 2022.
    """
    check_positive(max_margin=max_margin)
    counts = check_class_counts(class_counts)
    margins = counts**-0.25
    return _as_weights(margins * (max_margin / margins.max()))


def inverse_frequency_weights(class_counts: ClassCounts) -> Float[Array, " classes"]:
    r"""Return the weights of WCCE, :math:`w_j = \sum_i n_i / (K n_j)`; balanced classes have 1.

    Args:
        class_counts: Training examples per class, ``[C]``, by class id.

    Returns:
        Weights ``[C]``.

    Raises:
        ValueError: As :func:`class_margins`.

    Reference:
        Eq. (2) of Sadi et al., with the weights that scikit-learn calls "balanced".
    """
    counts = check_class_counts(class_counts)
    return _as_weights(counts.sum() / (len(counts) * counts))


def balanced_weights(class_counts: ClassCounts) -> Float[Array, " classes"]:
    r"""Return the weights of BWCCE, :math:`w_j = (1 - n_j / \sum_i n_i) / (K - 1)`; they sum to 1.

    Args:
        class_counts: Training examples per class, ``[C]``, by class id.

    Returns:
        Weights ``[C]``.

    Raises:
        ValueError: As :func:`class_margins`.

    Reference:
        Eq. (3) of Sadi et al.
    """
    counts = check_class_counts(class_counts)
    return _as_weights((1 - counts / counts.sum()) / (len(counts) - 1))


def effective_number_weights(
    class_counts: ClassCounts, *, effective_number_beta: float = 0.9999
) -> Float[Array, " classes"]:
    r"""Return class-balanced weights :math:`(1 - b) / (1 - b^{n_j})`, scaled to sum to ``C``.

    Args:
        class_counts: Training examples per class, ``[C]``, by class id.
        effective_number_beta: The paper's :math:`b`, in [0, 1). At 0 all weights are equal; near
            1 they are close to the inverse frequency.

    Returns:
        Weights ``[C]``.

    Raises:
        ValueError: As :func:`class_margins`, or if ``effective_number_beta`` is outside [0, 1).

    Reference:
        Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019.
    """
    check_below_one(effective_number_beta=effective_number_beta)
    counts = check_class_counts(class_counts)
    # expm1 and log1p keep the digits that 1 - b**n loses where b is close to 1.
    log_beta = np.log1p(effective_number_beta - 1) if effective_number_beta > 0 else -np.inf
    weights = 1 / -np.expm1(counts * log_beta)
    return _as_weights(weights * (len(counts) / weights.sum()))


def _as_weights(weights: np.ndarray) -> Float[Array, " classes"]:
    return jnp.asarray(weights, dtype=jnp.result_type(float))
