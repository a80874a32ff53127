"""LMF and its two parts, the focal loss and LDAM.

All are called ``(logits [..., C], labels [...], ..., where=[...])`` and return ``[...]``.
"""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Integer

from lmf_jax.losses.checks import (
    Scalar,
    check_batch,
    check_class_vector,
    check_fraction,
    check_not_negative,
    check_positive,
)
from lmf_jax.losses.class_weights import class_margins, effective_number_weights
from lmf_jax.losses.log_odds import log_odds_against, map_examples
from lmf_jax.losses.loss_config import HeadName, LossConfig
from lmf_jax.losses.registry import LMF_PAPER, register_loss
from lmf_jax.losses.softplus import softplus, softplus_both
from lmf_jax.losses.term import Term

LDAM_PAPER = "Cao et al. 2019, arXiv 1906.07413"


def focal_loss(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    class_weights: Float[ArrayLike, " classes"] | None = None,
    *,
    gamma: Scalar = 1.5,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    r"""Softmax focal loss, :math:`-\alpha_y (1 - p_y)^\gamma \log p_y`.

    Args:
        logits: ``[..., C]``, as :func:`cross_entropy_loss`.
        labels: ``[...]``, as :func:`cross_entropy_loss`.
        class_weights: The :math:`\alpha_t` of Eq. (7), ``[C]``; all 1 if not given.
        gamma: Focusing parameter, at least 0; at 0 this is cross entropy.
        where: As :func:`cross_entropy_loss`.

    Returns:
        One value per example ``[...]``, not reduced.

    Raises:
        TypeError, ValueError: As :func:`cross_entropy_loss`; also if ``gamma`` is negative.

    Reference:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017; Eq. (6) and (7) of Sadi et
        al., who use ``gamma=1.5`` and the margins of LDAM as class weights.
    """
    check_not_negative(gamma=gamma)
    logits, labels, where = check_batch(logits, labels, where)
    weights = check_class_vector("class_weights", class_weights, logits)
    return map_examples(_focal, logits, labels, where, weights, gamma)


@register_loss(
    "focal",
    task="classification",
    summary="focal loss weighted by the margins",
    paper=f"Lin et al. 2017, arXiv 1708.02002; {LMF_PAPER}, Eq. 7",
    options=["gamma", "max_margin"],
    options_by_form={"paper-v1": ("gamma",)},
)
def _focal_terms(class_counts: np.ndarray, config: LossConfig, head: HeadName) -> list[Term]:
    return [Term(1.0, _focal_part(_margins(class_counts, config), config))]


def _focal_part(margins: Array, config: LossConfig) -> Callable[..., Array]:
    gamma = 1.5 if config.gamma is None else config.gamma
    class_weights = None if config.form == "paper-v1" else margins
    return partial(focal_loss, class_weights=class_weights, gamma=gamma)


def _margins(class_counts: np.ndarray, config: LossConfig) -> Array:
    return class_margins(class_counts, max_margin=config.max_margin)


def ldam_loss(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    margins: Float[ArrayLike, " classes"],
    *,
    scale: Scalar = 30.0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    r"""Label-distribution-aware margin loss.

    .. math:: -\log \frac{e^{s (z_y - \Delta_y)}}{e^{s (z_y - \Delta_y)} + \sum_{j \ne y} e^{s z_j}}

    Args:
        logits: ``[..., C]``, as :func:`cross_entropy_loss`.
        labels: ``[...]``, as :func:`cross_entropy_loss`.
        margins: :math:`\Delta`, ``[C]``, from :func:`lmf_jax.class_margins`.
        scale: :math:`s`, above 0; 30 in the code of LDAM and of LMF, 1 in Eq. (5).
        where: As :func:`cross_entropy_loss`.

    Returns:
        One value per example ``[...]``, not reduced.

    Raises:
        TypeError, ValueError: As :func:`cross_entropy_loss`; also if ``scale`` is not above 0.

    Reference:
        Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss,
        NeurIPS 2019; Eq. (5) of Sadi et al.
    """
    check_positive(scale=scale)
    logits, labels, where = check_batch(logits, labels, where)
    margins = check_class_vector("margins", margins, logits)
    return map_examples(_ldam, logits, labels, where, margins, scale)


def ldam_scale(config: LossConfig, head: HeadName) -> float:
    """Return the scale of the logits: 30 as released, 1 as printed; cosines need the 30."""
    if config.scale is not None:
        return config.scale
    return 1.0 if config.form != "released" and head == "linear" else 30.0


def drw_scale(config: LossConfig, head: HeadName) -> float:
    """Return the scale of the logits, 30 in every form."""
    return 30.0 if config.scale is None else config.scale


@register_loss(
    "ldam",
    task="classification",
    summary="label-distribution-aware margins",
    paper=f"{LDAM_PAPER}; {LMF_PAPER}, Eq. 5",
    options=["scale", "max_margin"],
    logit_scale=ldam_scale,
)
def _ldam_terms(class_counts: np.ndarray, config: LossConfig, head: HeadName) -> list[Term]:
    return [_ldam_part(1.0, _margins(class_counts, config), config, head)]


def _ldam_part(coefficient: float, margins: Array, config: LossConfig, head: HeadName) -> Term:
    loss = partial(ldam_loss, margins=margins, scale=ldam_scale(config, head))
    return Term(coefficient, loss, margins if config.form == "released" else None)


@register_loss(
    "ldam-drw",
    task="classification",
    summary="LDAM with deferred re-weighting by effective number",
    paper=LDAM_PAPER,
    options=["scale", "max_margin", "effective_number_beta", "drw_start"],
    logit_scale=drw_scale,
)
def _ldam_drw_terms(class_counts: np.ndarray, config: LossConfig, head: HeadName) -> list[Term]:
    check_fraction(drw_start=config.drw_start)
    margins = _margins(class_counts, config)
    loss = partial(ldam_loss, margins=margins, scale=drw_scale(config, head))
    weights = effective_number_weights(
        class_counts, effective_number_beta=config.effective_number_beta
    )
    return [Term(1.0, loss, weights, reweight_start=config.drw_start)]


def lmf_loss(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    margins: Float[ArrayLike, " classes"],
    *,
    alpha: Scalar = 1.0,
    beta: Scalar = 1.0,
    gamma: Scalar = 1.5,
    scale: Scalar = 30.0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    r"""Large margin aware focal loss, :math:`\alpha L_{LDAM} + \beta L_{focal}`.

    The class weights of the focal part are the margins. With ``scale=1`` this is Eq. (8) as
    printed. The batch loss of the authors' code divides the two parts by different sums: see
    :func:`lmf_jax.losses.make_objective`.

    Args:
        logits: ``[..., C]``, as :func:`cross_entropy_loss`.
        labels: ``[...]``, as :func:`cross_entropy_loss`.
        margins: ``[C]``, from :func:`lmf_jax.class_margins`.
        alpha: Weight of the LDAM part, at least 0; 0.5 to 2 is best in the paper.
        beta: Weight of the focal part, at least 0; 0.5 to 2 is best in the paper.
        gamma: Focusing parameter of the focal part, at least 0.
        scale: Scale of the logits in the LDAM part, above 0.
        where: As :func:`cross_entropy_loss`.

    Returns:
        One value per example ``[...]``, not reduced.

    Raises:
        TypeError, ValueError: As :func:`cross_entropy_loss`; also if ``alpha``, ``beta`` or
            ``gamma`` is negative or ``scale`` is not above 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from lmf_jax import class_margins, lmf_loss
        >>> margins = class_margins([100, 20, 5])
        >>> loss = lmf_loss(jnp.array([[2.0, 0.5, -1.0]]), jnp.array([2]), margins)
        >>> print(f"{loss[0]:.2f}")
        106.53

    Reference:
        Eq. (8) of Sadi et al., LMFLoss: A Hybrid Loss for Imbalanced Medical Image
        Classification, arXiv 2212.12741.
    """
    check_not_negative(alpha=alpha, beta=beta, gamma=gamma)
    check_positive(scale=scale)
    logits, labels, where = check_batch(logits, labels, where)
    margins = check_class_vector("margins", margins, logits)
    return map_examples(_lmf, logits, labels, where, margins, alpha, beta, gamma, scale)


def lmf_logit_scale(config: LossConfig, head: HeadName) -> float:
    """Return the scale of the softmax that both parts train.

    On a linear head the parts train softmaxes of two scales: here it is 1, that of the focal part.
    """
    return ldam_scale(config, head) if head == "cosine" else 1.0


@register_loss(
    "lmf",
    task="classification",
    summary="alpha * LDAM + beta * focal",
    paper=f"{LMF_PAPER}, Eq. 8",
    options=["alpha", "beta", "gamma", "scale", "max_margin"],
    logit_scale=lmf_logit_scale,
)
def _lmf_terms(class_counts: np.ndarray, config: LossConfig, head: HeadName) -> list[Term]:
    check_not_negative(alpha=config.alpha, beta=config.beta)
    margins = _margins(class_counts, config)
    focal = _focal_part(margins, config)
    if head == "cosine":  # the focal part needs logits wider than [-1, 1] too
        focal = partial(scaled, focal, ldam_scale(config, head))
    return [_ldam_part(config.alpha, margins, config, head), Term(config.beta, focal)]


def scaled(
    loss: Callable[..., Array],
    scale: float,
    logits: Float[Array, "*batch classes"],
    labels: Integer[Array, "..."],
    *,
    where: Bool[Array, "..."] | None = None,
) -> Float[Array, "..."]:
    """Return the loss of the logits times ``scale``."""
    return loss(scale * logits, labels, where=where)


# One example: logits [C], label [] -> []


def _focal(logits: Array, label: Array, class_weights: Array, gamma: Array) -> Array:
    cross_entropy, minus_log_error = softplus_both(log_odds_against(logits, label))
    # (1 - p)**gamma in log space: the power has an infinite derivative at 0 for gamma < 1.
    return class_weights[label] * jnp.exp(-gamma * minus_log_error) * cross_entropy


def _ldam(logits: Array, label: Array, margins: Array, scale: Array) -> Array:
    return softplus(log_odds_against(logits, label, scale) + scale * margins[label])


def _lmf(
    logits: Array,
    label: Array,
    margins: Array,
    alpha: Array,
    beta: Array,
    gamma: Array,
    scale: Array,
) -> Array:
    ldam = _ldam(logits, label, margins, scale)
    return alpha * ldam + beta * _focal(logits, label, margins, gamma)
