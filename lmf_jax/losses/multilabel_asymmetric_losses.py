"""Multi-label losses that treat positive and negative labels differently.

All are called ``(logits [..., C], labels [..., C], ..., where=[...])`` and return one value per
label, ``[..., C]``.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Integer

from lmf_jax.losses.checks import (
    ClassCounts,
    Scalar,
    check_below_one,
    check_class_vector,
    check_finite,
    check_not_negative,
    check_positive,
)
from lmf_jax.losses.label_vectors import LabelTerm, check_label_batch, map_label_vectors
from lmf_jax.losses.label_weights import check_both_values, check_label_counts
from lmf_jax.losses.loss_config import HeadName, LossConfig
from lmf_jax.losses.registry import register_loss
from lmf_jax.losses.softplus import softplus, softplus_both


def asymmetric_loss(
    logits: Float[ArrayLike, "*batch labels"],
    labels: Integer[ArrayLike, "*batch labels"],
    *,
    gamma_positive: Scalar = 0.0,
    gamma_negative: Scalar = 4.0,
    clip: Scalar = 0.05,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch labels"]:
    r"""Asymmetric loss (ASL): focal loss with stronger focusing, and a shift, of the negatives.

    :math:`-(1 - p)^{\gamma_+} \log p` of positive and :math:`-p_m^{\gamma_-} \log(1 - p_m)` of
    negative labels, with :math:`p_m = \max(p - m, 0)`. The gradient includes that of the focusing
    factors; the authors' code can leave it out.

    Args:
        logits: ``[..., C]``, as :func:`lmf_jax.losses.sigmoid_cross_entropy_loss`.
        labels: ``[..., C]``, as :func:`lmf_jax.losses.sigmoid_cross_entropy_loss`.
        gamma_positive: :math:`\gamma_+`, at least 0.
        gamma_negative: :math:`\gamma_-`, at least 0.
        clip: The probability :math:`m`, in [0, 1), up to which a negative label gives 0.
        where: As :func:`lmf_jax.losses.sigmoid_cross_entropy_loss`.

    Returns:
        One value per label ``[..., C]``, not reduced.

    Raises:
        TypeError, ValueError: As :func:`lmf_jax.losses.sigmoid_cross_entropy_loss`; also if a
            parameter is out of its range.

    Reference:
        Ridnik et al., Asymmetric Loss for Multi-Label Classification, ICCV 2021, Eq. (5) to (7).
    """
    check_not_negative(gamma_positive=gamma_positive, gamma_negative=gamma_negative)
    check_below_one(clip=clip)
    logits, labels, where = check_label_batch(logits, labels, where)
    parameters = (gamma_positive, gamma_negative, clip)
    return map_label_vectors(_asymmetric, logits, labels, where, *parameters)


@register_loss(
    "asl",
    task="multilabel",
    summary="asymmetric loss, whose gamma belongs to the negatives",
    paper="Ridnik et al. 2021, arXiv 2009.14119",
    options=["gamma"],
)
def _asl_terms(label_counts: np.ndarray, config: LossConfig, head: HeadName) -> list[LabelTerm]:
    gamma = 4.0 if config.gamma is None else config.gamma
    return [LabelTerm(1.0, partial(asymmetric_loss, gamma_negative=gamma))]


def robust_asymmetric_loss(
    logits: Float[ArrayLike, "*batch labels"],
    labels: Integer[ArrayLike, "*batch labels"],
    *,
    gamma_positive: Scalar = 0.0,
    gamma_negative: Scalar = 4.0,
    clip: Scalar = 0.05,
    hill_lambda: Scalar = 1.5,
    first_epsilon: Scalar = 1.0,
    second_epsilon: Scalar = -2.5,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch labels"]:
    r"""Robust asymmetric loss (RAL): ASL with a polynomial, and a Hill factor of the negatives.

    With :math:`p_m = \max(p - m, 0)`, for positive labels

    .. math:: (1 - p)^{\gamma_+} (-\log p - \epsilon_1 (1 - p) - \epsilon_2 (1 - p)^2 / 2)

    and for negative labels

    .. math:: -p_m^{\gamma_-} \log(1 - p_m) \, p^2 (\lambda - p) (\lambda - 1 + p_m) .

    The polynomial replaces the first two terms of the Taylor series of :math:`-\log p`, and
    :math:`p^2 (\lambda - p)` is the Hill loss. With the defaults, both are those of the authors'
    code, where the last factor stands too.

    Args:
        logits: ``[..., C]``, as :func:`lmf_jax.losses.sigmoid_cross_entropy_loss`.
        labels: ``[..., C]``, as :func:`lmf_jax.losses.sigmoid_cross_entropy_loss`.
        gamma_positive: :math:`\gamma_+`, at least 0.
        gamma_negative: :math:`\gamma_-`, at least 0.
        clip: The probability :math:`m`, in [0, 1), up to which a negative label gives 0.
        hill_lambda: :math:`\lambda`, above 0; from 1 on, no factor is negative.
        first_epsilon: :math:`\epsilon_1`; at most 1, else a correct positive gets a negative value.
        second_epsilon: :math:`\epsilon_2`.
        where: As :func:`lmf_jax.losses.sigmoid_cross_entropy_loss`.

    Returns:
        One value per label ``[..., C]``, not reduced.

    Raises:
        TypeError, ValueError: As :func:`lmf_jax.losses.sigmoid_cross_entropy_loss`; also if a
            parameter is out of its range.

    Reference:
        Park et al., Robust Asymmetric Loss for Multi-Label Long-Tailed Learning, ICCV workshops
        2023, arXiv 2308.05542, in the form of their code (``Ralloss``); Zhang et al., Simple and
        Robust Loss Design for Multi-Label Learning with Missing Labels, 2021, for the Hill loss;
        Huang et al., Asymmetric Polynomial Loss for Multi-Label Classification, ICASSP 2023, for
        the polynomial.
    """
    check_not_negative(gamma_positive=gamma_positive, gamma_negative=gamma_negative)
    check_below_one(clip=clip)
    check_positive(hill_lambda=hill_lambda)
    check_finite(first_epsilon=first_epsilon, second_epsilon=second_epsilon)
    logits, labels, where = check_label_batch(logits, labels, where)
    parameters = (gamma_positive, gamma_negative, clip, hill_lambda, first_epsilon, second_epsilon)
    return map_label_vectors(_robust_asymmetric, logits, labels, where, *parameters)


@register_loss(
    "ral",
    task="multilabel",
    summary="robust asymmetric loss, whose gamma belongs to the negatives",
    paper="Park et al. 2023, arXiv 2308.05542",
    options=["gamma"],
)
def _ral_terms(label_counts: np.ndarray, config: LossConfig, head: HeadName) -> list[LabelTerm]:
    gamma = 4.0 if config.gamma is None else config.gamma
    return [LabelTerm(1.0, partial(robust_asymmetric_loss, gamma_negative=gamma))]


def distribution_balanced_loss(
    logits: Float[ArrayLike, "*batch labels"],
    labels: Integer[ArrayLike, "*batch labels"],
    positive_counts: ClassCounts,
    negative_counts: ClassCounts,
    *,
    gamma: Scalar = 2.0,
    alpha: Scalar = 0.1,
    beta: Scalar = 10.0,
    mu: Scalar = 0.2,
    negative_scale: Scalar = 2.0,
    kappa: Scalar = 0.05,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch labels"]:
    r"""Distribution-balanced loss (DB focal): re-balanced weights, negative-tolerant logits.

    With :math:`x_c = z_c - \nu_c`, :math:`\nu_c = (\kappa / \lambda) \log(1 / \pi_c - 1)` and the
    prevalence :math:`\pi_c`,

    .. math:: \hat r_c \, (1 - q_c)^\gamma \, y_c \log(1 + e^{-x_c})
        + \hat r_c \, (1 - q_c)^\gamma \, (1 - y_c) \log(1 + e^{\lambda x_c}) / \lambda ,

    where :math:`q_c` is the probability of the label as it is, :math:`\sigma(x_c)` or
    :math:`\sigma(-\lambda x_c)`. The weights of an example are
    :math:`\hat r_c = \alpha + \sigma(\beta (r_c - \mu))` with
    :math:`r_c = n_c^{-1} / \sum_{k: y_k = 1} n_k^{-1}`, :math:`n_c` the positive examples of label
    ``c``. Without a positive label :math:`r_c` is infinite and :math:`\hat r_c = \alpha + 1`.
    Missing labels are not positive.

    The defaults are those of the authors' configuration for COCO-LT, without its constant factor 2;
    for VOC-LT they have ``mu=0.3`` and ``negative_scale=5``. With ``gamma=0`` there is no focal
    factor. The paper prints :math:`\nu_c` without the division by :math:`\lambda` that the code
    makes.

    Args:
        logits: ``[..., C]``, as :func:`lmf_jax.losses.sigmoid_cross_entropy_loss`.
        labels: ``[..., C]``, as :func:`lmf_jax.losses.sigmoid_cross_entropy_loss`.
        positive_counts: Training examples with each label, ``[C]``.
        negative_counts: Training examples without each label, ``[C]``.
        gamma: Focusing parameter, at least 0.
        alpha: :math:`\alpha`, the smallest weight, at least 0.
        beta: :math:`\beta`, the slope of the weights, at least 0.
        mu: :math:`\mu`, where they rise, at least 0.
        negative_scale: :math:`\lambda`, above 0; above 1, confident negatives train less.
        kappa: :math:`\kappa`, the strength of the bias, at least 0.
        where: As :func:`lmf_jax.losses.sigmoid_cross_entropy_loss`; masked labels are not positive.

    Returns:
        One value per label ``[..., C]``, not reduced.

    Raises:
        TypeError, ValueError: As :func:`lmf_jax.losses.sigmoid_cross_entropy_loss` and
            :func:`lmf_jax.losses.label_margins`; also if a parameter is out of its range.

    Reference:
        Wu et al., Distribution-Balanced Loss for Multi-Label Classification in Long-Tailed
        Datasets, ECCV 2020, arXiv 2007.09654, and the configurations of their code.
    """
    check_not_negative(gamma=gamma, alpha=alpha, beta=beta, mu=mu, kappa=kappa)
    check_positive(negative_scale=negative_scale)
    logits, labels, where = check_label_batch(logits, labels, where)
    counts = check_label_counts(positive_counts, negative_counts)
    check_both_values(counts)
    rarity = check_class_vector("positive_counts", counts[:, 1].min() / counts[:, 1], logits)
    log_odds = np.log(counts[:, 1] / counts[:, 0])
    prior = check_class_vector("positive_counts", log_odds, logits, signed=True)
    parameters = (rarity, prior, gamma, alpha, beta, mu, negative_scale, kappa)
    return map_label_vectors(_distribution_balanced, logits, labels, where, *parameters)


@register_loss(
    "distribution-balanced",
    task="multilabel",
    summary="re-balanced weights and negative-tolerant logits, with a focal factor",
    paper="Wu et al. 2020, arXiv 2007.09654",
    options=["gamma"],
)
def _distribution_balanced_terms(
    label_counts: np.ndarray, config: LossConfig, head: HeadName
) -> list[LabelTerm]:
    loss = partial(
        distribution_balanced_loss,
        positive_counts=label_counts[:, 1],
        negative_counts=label_counts[:, 0],
        gamma=2.0 if config.gamma is None else config.gamma,
    )
    return [LabelTerm(1.0, loss)]


# One example: logits [C], labels [C] -> [C]


def _asymmetric(
    logits: Array, labels: Array, gamma_positive: Array, gamma_negative: Array, clip: Array
) -> Array:
    minus_log_error, cross_entropy = softplus_both(logits)  # -log(1 - p), -log p
    positive = jnp.exp(-gamma_positive * minus_log_error) * cross_entropy
    negative = _focused_negative(logits, gamma_negative, clip)[1]
    return jnp.where(labels == 1, positive, negative)


def _focused_negative(logits: Array, gamma: Array, clip: Array) -> tuple[Array, Array]:
    """Return the shifted probability p_m, and -p_m**gamma * log(1 - p_m)."""
    shifted = jnp.maximum(jax.nn.sigmoid(logits) - clip, 0)
    # log(1 - p_m) comes from p_m near 0, else from 1 - p_m = sigmoid(-z) + clip, which keeps the
    # digits that p loses near 1. Without a clip both logarithms underflow, and softplus does not.
    # An unused branch gets a harmless argument, so that its derivatives are finite.
    is_small = shifted < 0.5
    near_zero = -jnp.log1p(-jnp.where(is_small, shifted, 0))
    rest = jnp.where(clip > 0, jax.nn.sigmoid(-logits) + clip, 1)
    large = jnp.where(clip > 0, -jnp.log(rest), softplus(logits))
    minus_log_rest = jnp.where(is_small, near_zero, large)
    has_clip = clip > 0
    log_shifted = jnp.log(jnp.where(has_clip & (shifted > 0), shifted, 1))
    log_shifted = jnp.where(has_clip, log_shifted, -softplus(-logits))
    focus = jnp.exp(gamma * log_shifted)
    return shifted, jnp.where(shifted > 0, focus * minus_log_rest, 0)


def _robust_asymmetric(
    logits: Array,
    labels: Array,
    gamma_positive: Array,
    gamma_negative: Array,
    clip: Array,
    hill_lambda: Array,
    first_epsilon: Array,
    second_epsilon: Array,
) -> Array:
    error = jax.nn.sigmoid(-logits)  # 1 - p
    polynomial = (1 - first_epsilon) * error - second_epsilon * error**2 / 2
    focus = jnp.exp(-gamma_positive * softplus(logits))
    positive = focus * (_above_first_order(logits, error) + polynomial)
    probability = jax.nn.sigmoid(logits)
    shifted, focused = _focused_negative(logits, gamma_negative, clip)
    hill = probability**2 * (hill_lambda - probability) * (hill_lambda - 1 + shifted)
    return jnp.where(labels == 1, positive, hill * focused)


def _above_first_order(logits: Array, error: Array) -> Array:
    """Return ``-log(1 - e) - e`` for the error e, whose terms cancel where it is small."""
    is_small = error < 0.25
    small = jnp.where(is_small, error, 0)
    series = jnp.zeros_like(small)
    for power in range(16, 1, -1):
        series = (series + 1 / power) * small
    return jnp.where(is_small, series * small, softplus(-logits) - error)


def _distribution_balanced(
    logits: Array,
    labels: Array,
    rarity: Array,
    prior: Array,
    gamma: Array,
    alpha: Array,
    beta: Array,
    mu: Array,
    negative_scale: Array,
    kappa: Array,
) -> Array:
    is_positive = labels == 1
    total = jnp.sum(jnp.where(is_positive, rarity, 0))
    ratio = rarity / jnp.where(total > 0, total, 1)
    weights = alpha + jnp.where(total > 0, jax.nn.sigmoid(beta * (ratio - mu)), 1)
    shifted = logits + kappa / negative_scale * prior
    log_odds = jnp.where(is_positive, -shifted, negative_scale * shifted)
    cross_entropy, minus_log_error = softplus_both(log_odds)
    tolerance = jnp.where(is_positive, 1, 1 / negative_scale)
    return weights * tolerance * jnp.exp(-gamma * minus_log_error) * cross_entropy
