"""Multi-label losses that are a cross entropy: plain, weighted, or of logits shifted by the priors.

All are called ``(logits [..., C], labels [..., C], ..., where=[...])`` and return one value per
label, ``[..., C]``. The labels are 0 or 1, and -1 where a label is missing.
"""

from functools import partial

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Integer

from lmf_jax.losses.checks import ClassCounts, Scalar, check_class_vector, check_not_negative
from lmf_jax.losses.label_vectors import (
    LabelTerm,
    check_label_batch,
    log_odds_against_labels,
    map_label_vectors,
)
from lmf_jax.losses.label_weights import check_both_values, check_label_counts, positive_weights
from lmf_jax.losses.loss_config import HeadName, LossConfig
from lmf_jax.losses.registry import register_loss
from lmf_jax.losses.softplus import softplus


def sigmoid_cross_entropy_loss(
    logits: Float[ArrayLike, "*batch labels"],
    labels: Integer[ArrayLike, "*batch labels"],
    positive_weights: Float[ArrayLike, " labels"] | None = None,
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch labels"]:
    r"""Binary cross entropy of each label (BCE), :math:`-w_c y \log p_c - (1 - y) \log(1 - p_c)`.

    Args:
        logits: Log odds of each label ``[..., C]``; half precision is computed in float32.
        labels: 0 or 1 for each label ``[..., C]``; -1 is missing, another label gives NaN.
        positive_weights: Weights :math:`w_c` of positive labels ``[C]``, not negative, such as
            those of :func:`lmf_jax.losses.positive_weights`; all 1 if not given.
        where: Mask in the shape of ``labels`` or of its leading axes. A masked or missing label
            gives exactly 0 with gradient 0, whatever its logit is.

    Returns:
        One value per label ``[..., C]``, not reduced.

    Raises:
        TypeError: If ``logits`` are not floats, ``labels`` not integers or ``where`` not booleans.
        ValueError: If shapes or lengths do not match or a weight is negative or not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from lmf_jax.losses import sigmoid_cross_entropy_loss
        >>> logits, labels = jnp.array([2.0, -1.0, 9.0]), jnp.array([1, 0, -1])
        >>> losses = sigmoid_cross_entropy_loss(logits, labels)
        >>> print([f"{value:.2f}" for value in losses])
        ['0.13', '0.31', '0.00']
    """
    logits, labels, where = check_label_batch(logits, labels, where)
    weights = check_class_vector("positive_weights", positive_weights, logits)
    return map_label_vectors(_cross_entropy, logits, labels, where, weights)


@register_loss(
    "bce",
    task="multilabel",
    summary="binary cross entropy of each label",
    paper="Rajpurkar et al. 2017, arXiv 1711.05225",
)
def _bce_terms(label_counts: np.ndarray, config: LossConfig, head: HeadName) -> list[LabelTerm]:
    return [LabelTerm(1.0, sigmoid_cross_entropy_loss)]


@register_loss(
    "wbce",
    task="multilabel",
    summary="binary cross entropy, positives weighted by negatives / positives",
    paper="Wang et al. 2017, arXiv 1705.02315",
)
def _wbce_terms(label_counts: np.ndarray, config: LossConfig, head: HeadName) -> list[LabelTerm]:
    weights = positive_weights(label_counts[:, 1], label_counts[:, 0])
    return [LabelTerm(1.0, partial(sigmoid_cross_entropy_loss, positive_weights=weights))]


def sigmoid_logit_adjusted_loss(
    logits: Float[ArrayLike, "*batch labels"],
    labels: Integer[ArrayLike, "*batch labels"],
    positive_counts: ClassCounts,
    negative_counts: ClassCounts,
    *,
    tau: Scalar = 1.0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch labels"]:
    r"""BCE of the logits :math:`z_c + \tau \log(\pi_c / (1 - \pi_c))`, :math:`\pi` the prevalence.

    Args:
        logits: ``[..., C]``, as :func:`sigmoid_cross_entropy_loss`.
        labels: ``[..., C]``, as :func:`sigmoid_cross_entropy_loss`.
        positive_counts: Training examples with each label, ``[C]``.
        negative_counts: Training examples without each label, ``[C]``.
        tau: Strength of the adjustment, at least 0; at 0 this is cross entropy.
        where: As :func:`sigmoid_cross_entropy_loss`.

    Returns:
        One value per label ``[..., C]``, not reduced.

    Raises:
        TypeError, ValueError: As :func:`sigmoid_cross_entropy_loss` and
            :func:`lmf_jax.losses.label_margins`; also if ``tau`` is negative.

    Reference:
        Menon et al., Long-tail learning via logit adjustment, ICLR 2021, Eq. (10) for the two
        values of each label: their softmax is the sigmoid of the difference of their logits.
    """
    check_not_negative(tau=tau)
    logits, labels, where = check_label_batch(logits, labels, where)
    counts = check_label_counts(positive_counts, negative_counts)
    check_both_values(counts)
    log_odds = np.log(counts[:, 1] / counts[:, 0])
    prior = check_class_vector("positive_counts", log_odds, logits, signed=True)
    return map_label_vectors(_logit_adjusted, logits, labels, where, prior, tau)


@register_loss(
    "logit-adjustment",
    task="multilabel",
    summary="logits shifted by tau * log odds of the prevalence",
    paper="Menon et al. 2021, arXiv 2007.07314",
    options=["tau"],
)
def _logit_adjustment_terms(
    label_counts: np.ndarray, config: LossConfig, head: HeadName
) -> list[LabelTerm]:
    loss = partial(
        sigmoid_logit_adjusted_loss,
        positive_counts=label_counts[:, 1],
        negative_counts=label_counts[:, 0],
        tau=config.tau,
    )
    return [LabelTerm(1.0, loss)]


# One example: logits [C], labels [C] -> [C]


def _cross_entropy(logits: Array, labels: Array, positive_weights: Array) -> Array:
    weights = jnp.where(labels == 1, positive_weights, 1)
    return weights * softplus(log_odds_against_labels(logits, labels))


def _logit_adjusted(logits: Array, labels: Array, prior: Array, tau: Array) -> Array:
    return softplus(log_odds_against_labels(logits + tau * prior, labels))
