"""Losses that are a cross entropy: plain, weighted by class, or of logits shifted by the priors.

All are called ``(logits [..., C], labels [...], ..., where=[...])`` and return ``[...]``.
"""

from functools import partial

import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Integer

from lmf_jax.losses.checks import (
    ClassCounts,
    Scalar,
    check_batch,
    check_class_counts,
    check_class_vector,
    check_not_negative,
)
from lmf_jax.losses.class_weights import (
    balanced_weights,
    effective_number_weights,
    inverse_frequency_weights,
)
from lmf_jax.losses.log_odds import log_odds_against, map_examples
from lmf_jax.losses.loss_config import HeadName, LossConfig
from lmf_jax.losses.registry import LMF_PAPER, register_loss
from lmf_jax.losses.softplus import softplus
from lmf_jax.losses.term import Term


def cross_entropy_loss(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    class_weights: Float[ArrayLike, " classes"] | None = None,
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    r"""Softmax cross entropy (CCE, WCCE, BWCCE), :math:`-w_y \log p_y`.

    Args:
        logits: Unnormalized log probabilities ``[..., C]``; half precision is computed in float32.
        labels: Class ids ``[...]`` in ``[0, C)``; a label outside gives NaN.
        class_weights: ``[C]``, not negative; all 1 if not given.
        where: Mask in the shape of ``labels`` or of its leading axes; a masked example gives
            exactly 0 with gradient 0, whatever its logits and label are.

    Returns:
        One value per example ``[...]``, not reduced.

    Raises:
        TypeError: If ``logits`` are not floats, ``labels`` not integers or ``where`` not booleans.
        ValueError: If shapes or lengths do not match or a weight is negative or not finite.

    Reference:
        Eq. (1) and (2) of Sadi et al., LMFLoss, 2022, before the mean.
    """
    logits, labels, where = check_batch(logits, labels, where)
    weights = check_class_vector("class_weights", class_weights, logits)
    return map_examples(_cross_entropy, logits, labels, where, weights)


@register_loss(
    "ce", task="classification", summary="cross entropy, CCE", paper=f"{LMF_PAPER}, Eq. 1"
)
def _ce_terms(class_counts: np.ndarray, config: LossConfig, head: HeadName) -> list[Term]:
    return [Term(1.0, cross_entropy_loss)]


@register_loss(
    "wcce",
    task="classification",
    summary="cross entropy weighted by inverse class frequency",
    paper=f"{LMF_PAPER}, Eq. 2",
)
def _wcce_terms(class_counts: np.ndarray, config: LossConfig, head: HeadName) -> list[Term]:
    return [_weighted_cross_entropy(inverse_frequency_weights(class_counts), config)]


@register_loss(
    "bwcce",
    task="classification",
    summary="balanced weighted cross entropy, weights sum to 1",
    paper=f"{LMF_PAPER}, Eq. 3",
)
def _bwcce_terms(class_counts: np.ndarray, config: LossConfig, head: HeadName) -> list[Term]:
    return [_weighted_cross_entropy(balanced_weights(class_counts), config)]


def _weighted_cross_entropy(class_weights: Array, config: LossConfig) -> Term:
    # The authors' code divides by the sum of the weights, as PyTorch does; the paper takes a plain
    # mean of the weighted losses.
    if config.form == "released":
        return Term(1.0, cross_entropy_loss, class_weights)
    return Term(1.0, partial(cross_entropy_loss, class_weights=class_weights))


@register_loss(
    "class-balanced",
    task="classification",
    summary="cross entropy weighted by effective number",
    paper="Cui et al. 2019, arXiv 1901.05555",
    options=["effective_number_beta"],
)
def _class_balanced_terms(
    class_counts: np.ndarray, config: LossConfig, head: HeadName
) -> list[Term]:
    weights = effective_number_weights(
        class_counts, effective_number_beta=config.effective_number_beta
    )
    return [Term(1.0, cross_entropy_loss, weights)]


def balanced_softmax_loss(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    class_counts: ClassCounts,
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    r"""Balanced softmax: cross entropy of :math:`p_j \propto n_j e^{z_j}`, n the class counts.

    Args:
        logits: ``[..., C]``, as :func:`cross_entropy_loss`.
        labels: ``[...]``, as :func:`cross_entropy_loss`.
        class_counts: Training examples per class, ``[C]``.
        where: As :func:`cross_entropy_loss`.

    Returns:
        One value per example ``[...]``, not reduced; equal to logit adjustment at ``tau=1``.

    Raises:
        TypeError, ValueError: As :func:`cross_entropy_loss` and :func:`lmf_jax.class_margins`.

    Reference:
        Ren et al., Balanced Meta-Softmax for Long-Tailed Visual Recognition, NeurIPS 2020.
    """
    return logit_adjusted_loss(logits, labels, class_counts, tau=1.0, where=where)


@register_loss(
    "balanced-softmax",
    task="classification",
    summary="softmax weighted by the class counts",
    paper="Ren et al. 2020, arXiv 2007.10740",
)
def _balanced_softmax_terms(
    class_counts: np.ndarray, config: LossConfig, head: HeadName
) -> list[Term]:
    return [Term(1.0, partial(balanced_softmax_loss, class_counts=class_counts))]


def logit_adjusted_loss(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    class_counts: ClassCounts,
    *,
    tau: Scalar = 1.0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    r"""Cross entropy of the logits :math:`z_j + \tau \log \pi_j` with class priors :math:`\pi`.

    Args:
        logits: ``[..., C]``, as :func:`cross_entropy_loss`.
        labels: ``[...]``, as :func:`cross_entropy_loss`.
        class_counts: Training examples per class, ``[C]``.
        tau: Strength of the adjustment, at least 0; at 0 this is cross entropy.
        where: As :func:`cross_entropy_loss`.

    Returns:
        One value per example ``[...]``, not reduced.

    Raises:
        TypeError, ValueError: As :func:`cross_entropy_loss` and :func:`lmf_jax.class_margins`;
            also if ``tau`` is negative.

    Reference:
        Menon et al., Long-tail learning via logit adjustment, ICLR 2021, Eq. (10).
    """
    check_not_negative(tau=tau)
    logits, labels, where = check_batch(logits, labels, where)
    counts = check_class_counts(class_counts)
    log_priors = check_class_vector(
        "class_counts", np.log(counts / counts.sum()), logits, signed=True
    )
    return map_examples(_logit_adjusted, logits, labels, where, log_priors, tau)


@register_loss(
    "logit-adjustment",
    task="classification",
    summary="logits shifted by tau * log prior",
    paper="Menon et al. 2021, arXiv 2007.07314",
    options=["tau"],
)
def _logit_adjustment_terms(
    class_counts: np.ndarray, config: LossConfig, head: HeadName
) -> list[Term]:
    loss = partial(logit_adjusted_loss, class_counts=class_counts, tau=config.tau)
    return [Term(1.0, loss)]


# One example: logits [C], label [] -> []


# -log p_y is the softplus of the log-odds against y.


def _cross_entropy(logits: Array, label: Array, class_weights: Array) -> Array:
    return class_weights[label] * softplus(log_odds_against(logits, label))


def _logit_adjusted(logits: Array, label: Array, log_priors: Array, tau: Array) -> Array:
    return softplus(log_odds_against(logits + tau * log_priors, label))
