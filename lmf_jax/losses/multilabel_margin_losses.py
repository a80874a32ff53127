"""LMF and its two parts for multi-label data: the focal loss and LDAM of each label.

All are called ``(logits [..., C], labels [..., C], ..., where=[...])`` and return one value per
label, ``[..., C]``.
"""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Integer

from lmf_jax.losses.checks import Scalar, check_fraction, check_not_negative, check_positive
from lmf_jax.losses.label_vectors import (
    LabelTerm,
    check_label_batch,
    log_odds_against_labels,
    map_label_vectors,
)
from lmf_jax.losses.label_weights import (
    check_label_matrix,
    label_effective_number_weights,
    label_margins,
)
from lmf_jax.losses.loss_config import HeadName, LossConfig
from lmf_jax.losses.margin_losses import (
    LDAM_PAPER,
    lmf_logit_scale,
    scaled,
)
from lmf_jax.losses.registry import LMF_PAPER, register_loss
from lmf_jax.losses.softplus import softplus, softplus_both


def sigmoid_focal_loss(
    logits: Float[ArrayLike, "*batch labels"],
    labels: Integer[ArrayLike, "*batch labels"],
    label_weights: Float[ArrayLike, "labels 2"] | None = None,
    *,
    gamma: Scalar = 1.5,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch labels"]:
    r"""Focal loss of each label, :math:`-w_{cy} (1 - p_y)^\gamma \log p_y`.

    :math:`p_y` is the probability of the label as it is, :math:`p_c` or :math:`1 - p_c`.

    Args:
        logits: ``[..., C]``, as :func:`lmf_jax.losses.sigmoid_cross_entropy_loss`.
        labels: ``[..., C]``, as :func:`lmf_jax.losses.sigmoid_cross_entropy_loss`.
        label_weights: ``[C, 2]``, by label and its value; all 1 if not given. The
            :math:`\alpha` of the paper is ``[[1 - alpha, alpha]]`` for every label.
        gamma: Focusing parameter, at least 0; at 0 this is cross entropy, and the paper has 2.
        where: As :func:`lmf_jax.losses.sigmoid_cross_entropy_loss`.

    Returns:
        One value per label ``[..., C]``, not reduced.

    Raises:
        TypeError, ValueError: As :func:`lmf_jax.losses.sigmoid_cross_entropy_loss`; also if
            ``gamma`` is negative.

    Reference:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, Eq. (5).
    """
    check_not_negative(gamma=gamma)
    logits, labels, where = check_label_batch(logits, labels, where)
    weights = check_label_matrix("label_weights", label_weights, logits)
    return map_label_vectors(_focal, logits, labels, where, weights, gamma)


@register_loss(
    "focal",
    task="multilabel",
    summary="focal loss of each label, weighted by the margins",
    paper=f"Lin et al. 2017, arXiv 1708.02002; {LMF_PAPER}, Eq. 7",
    options=["gamma", "max_margin"],
    options_by_form={"paper-v1": ("gamma",)},
)
def _focal_terms(label_counts: np.ndarray, config: LossConfig, head: HeadName) -> list[LabelTerm]:
    margins = None if config.form == "paper-v1" else _margins(label_counts, config)
    return [LabelTerm(1.0, _focal_part(margins, config))]


def _focal_part(margins: Array | None, config: LossConfig) -> Callable[..., Array]:
    label_weights = None if config.form == "paper-v1" else margins
    gamma = 1.5 if config.gamma is None else config.gamma
    return partial(sigmoid_focal_loss, label_weights=label_weights, gamma=gamma)


def _label_scale(config: LossConfig, head: HeadName) -> float:
    """Return the scale of the logits: 1, and 30 for cosines."""
    if config.scale is not None:
        return config.scale
    # A linear head learns its own scale; with 30, the mAP on the drawn digits was far lower.
    return 30.0 if head == "cosine" else 1.0


def _margins(label_counts: np.ndarray, config: LossConfig) -> Array:
    return label_margins(label_counts[:, 1], label_counts[:, 0], max_margin=config.max_margin)


def sigmoid_ldam_loss(
    logits: Float[ArrayLike, "*batch labels"],
    labels: Integer[ArrayLike, "*batch labels"],
    margins: Float[ArrayLike, "labels 2"],
    *,
    scale: Scalar = 1.0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch labels"]:
    r"""Label-distribution-aware margin loss of each label.

    BCE of the logits :math:`s (z_c - \Delta_{c1})` of positive and :math:`s (z_c + \Delta_{c0})`
    of negative labels.

    Args:
        logits: ``[..., C]``, as :func:`lmf_jax.losses.sigmoid_cross_entropy_loss`.
        labels: ``[..., C]``, as :func:`lmf_jax.losses.sigmoid_cross_entropy_loss`.
        margins: :math:`\Delta`, ``[C, 2]``, from :func:`lmf_jax.losses.label_margins`.
        scale: :math:`s`, above 0.
        where: As :func:`lmf_jax.losses.sigmoid_cross_entropy_loss`.

    Returns:
        One value per label ``[..., C]``, not reduced.

    Raises:
        TypeError, ValueError: As :func:`lmf_jax.losses.sigmoid_cross_entropy_loss`; also if
            ``scale`` is not above 0.

    Reference:
        Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss,
        NeurIPS 2019, whose softmax is here the sigmoid of one label.
    """
    check_positive(scale=scale)
    logits, labels, where = check_label_batch(logits, labels, where)
    margins = check_label_matrix("margins", margins, logits)
    return map_label_vectors(_ldam, logits, labels, where, margins, scale)


@register_loss(
    "ldam",
    task="multilabel",
    summary="label-distribution-aware margins of each label",
    paper=f"{LDAM_PAPER}; {LMF_PAPER}, Eq. 5",
    options=["scale", "max_margin"],
    logit_scale=_label_scale,
)
def _ldam_terms(label_counts: np.ndarray, config: LossConfig, head: HeadName) -> list[LabelTerm]:
    return [_ldam_part(1.0, _margins(label_counts, config), config, head)]


def _ldam_part(coefficient: float, margins: Array, config: LossConfig, head: HeadName) -> LabelTerm:
    loss = partial(sigmoid_ldam_loss, margins=margins, scale=_label_scale(config, head))
    return LabelTerm(coefficient, loss, margins if config.form == "released" else None)


@register_loss(
    "ldam-drw",
    task="multilabel",
    summary="LDAM of each label with deferred re-weighting by effective number",
    paper=LDAM_PAPER,
    options=["scale", "max_margin", "effective_number_beta", "drw_start"],
    logit_scale=_label_scale,
)
def _ldam_drw_terms(
    label_counts: np.ndarray, config: LossConfig, head: HeadName
) -> list[LabelTerm]:
    check_fraction(drw_start=config.drw_start)
    margins = _margins(label_counts, config)
    loss = partial(sigmoid_ldam_loss, margins=margins, scale=_label_scale(config, head))
    weights = label_effective_number_weights(
        label_counts[:, 1],
        label_counts[:, 0],
        effective_number_beta=config.effective_number_beta,
    )
    return [LabelTerm(1.0, loss, weights, reweight_start=config.drw_start)]


def sigmoid_lmf_loss(
    logits: Float[ArrayLike, "*batch labels"],
    labels: Integer[ArrayLike, "*batch labels"],
    margins: Float[ArrayLike, "labels 2"],
    *,
    alpha: Scalar = 1.0,
    beta: Scalar = 1.0,
    gamma: Scalar = 1.5,
    scale: Scalar = 1.0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch labels"]:
    r"""Large margin aware focal loss of each label, :math:`\alpha L_{LDAM} + \beta L_{focal}`.

    The weights of the focal part are the margins, as in :func:`lmf_jax.lmf_loss`.

    Args:
        logits: ``[..., C]``, as :func:`lmf_jax.losses.sigmoid_cross_entropy_loss`.
        labels: ``[..., C]``, as :func:`lmf_jax.losses.sigmoid_cross_entropy_loss`.
        margins: ``[C, 2]``, from :func:`lmf_jax.losses.label_margins`.
        alpha: Weight of the LDAM part, at least 0.
        beta: Weight of the focal part, at least 0.
        gamma: Focusing parameter of the focal part, at least 0.
        scale: Scale of the logits in the LDAM part, above 0.
        where: As :func:`lmf_jax.losses.sigmoid_cross_entropy_loss`.

    Returns:
        One value per label ``[..., C]``, not reduced.

    Raises:
        TypeError, ValueError: As :func:`lmf_jax.losses.sigmoid_cross_entropy_loss`; also if
            ``alpha``, ``beta`` or ``gamma`` is negative or ``scale`` is not above 0.

    Reference:
        Eq. (8) of Sadi et al., LMFLoss: A Hybrid Loss for Imbalanced Medical Image
        Classification, arXiv 2212.12741, with a sigmoid for each label.
    """
    check_not_negative(alpha=alpha, beta=beta, gamma=gamma)
    check_positive(scale=scale)
    logits, labels, where = check_label_batch(logits, labels, where)
    margins = check_label_matrix("margins", margins, logits)
    return map_label_vectors(_lmf, logits, labels, where, margins, alpha, beta, gamma, scale)


@register_loss(
    "lmf",
    task="multilabel",
    summary="alpha * LDAM + beta * focal of each label",
    paper=f"{LMF_PAPER}, Eq. 8",
    options=["alpha", "beta", "gamma", "scale", "max_margin"],
    logit_scale=lmf_logit_scale,
)
def _lmf_terms(label_counts: np.ndarray, config: LossConfig, head: HeadName) -> list[LabelTerm]:
    check_not_negative(alpha=config.alpha, beta=config.beta)
    margins = _margins(label_counts, config)
    focal = _focal_part(margins, config)
    if head == "cosine":  # the focal part needs logits wider than [-1, 1] too
        focal = partial(scaled, focal, _label_scale(config, head))
    return [_ldam_part(config.alpha, margins, config, head), LabelTerm(config.beta, focal)]


# One example: logits [C], labels [C] -> [C]


def _of_label(table: Array, labels: Array) -> Array:
    return jnp.where(labels == 1, table[:, 1], table[:, 0])


def _focal(logits: Array, labels: Array, label_weights: Array, gamma: Array) -> Array:
    cross_entropy, minus_log_error = softplus_both(log_odds_against_labels(logits, labels))
    # (1 - p)**gamma in log space: the power has an infinite derivative at 0 for gamma < 1.
    return _of_label(label_weights, labels) * jnp.exp(-gamma * minus_log_error) * cross_entropy


def _ldam(logits: Array, labels: Array, margins: Array, scale: Array) -> Array:
    log_odds = log_odds_against_labels(logits, labels)
    return softplus(scale * (log_odds + _of_label(margins, labels)))


def _lmf(
    logits: Array,
    labels: Array,
    margins: Array,
    alpha: Array,
    beta: Array,
    gamma: Array,
    scale: Array,
) -> Array:
    ldam = _ldam(logits, labels, margins, scale)
    return alpha * ldam + beta * _focal(logits, labels, margins, gamma)
