r"""Losses of single-label classification: pure functions, one value per example.

Everything here is said in one number per example, the log odds against its label ``y``,

.. math:: d = \log \sum_{j \ne y} e^{z_j} - z_y ,

because :math:`p_y = \sigma(-d)`: cross entropy is :math:`\mathrm{softplus}(d)` and
:math:`\log(1 - p_y)` is :math:`-\mathrm{softplus}(-d)`. Both keep all their digits where
:math:`p_y` rounds to 0 or 1, and so do their gradients and Hessians.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer

from lmf_jax.losses.checks import (
    ClassCounts,
    Scalar,
    check_batch,
    check_class_counts,
    check_class_vector,
    check_not_negative,
    check_positive,
)
from lmf_jax.losses.softplus import softplus, softplus_both


def cross_entropy_loss(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    class_weights: Float[ArrayLike, " classes"] | None = None,
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    r"""Softmax cross entropy (CCE, WCCE, BWCCE), :math:`-w_y \log p_y`.

    Args:
        logits: unnormalised log probabilities ``[..., C]``; half precision is computed in float32.
        labels: class ids ``[...]`` in ``[0, C)``; a label outside gives NaN.
        class_weights: ``[C]``, not negative; all 1 if not given.
        where: mask in the shape of ``labels`` or of its leading axes; a masked example gives
            exactly 0 with gradient 0, whatever its logits and label are.

    Returns:
        One value per example ``[...]``, not reduced.

    Raises:
        TypeError: if ``logits`` are not floats, ``labels`` not integers or ``where`` not booleans.
        ValueError: if shapes or lengths do not match or a weight is negative or not finite.

    Reference:
        Eq. (1) and (2) of Sadi et al., LMFLoss, 2022, before the mean.
    """
    logits, labels, where = check_batch(logits, labels, where)
    weights = check_class_vector("class_weights", class_weights, logits)
    return _map_examples(_cross_entropy, logits, labels, where, weights)


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
        class_weights: the :math:`\alpha_t` of Eq. (7), ``[C]``; all 1 if not given.
        gamma: focusing parameter, at least 0; at 0 this is cross entropy.
        where: as :func:`cross_entropy_loss`.

    Returns:
        One value per example ``[...]``, not reduced.

    Raises:
        TypeError, ValueError: as :func:`cross_entropy_loss`; also if ``gamma`` is negative.

    Reference:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017; Eq. (6) and (7) of Sadi et
        al., who use ``gamma=1.5`` and the margins of LDAM as class weights.
    """
    check_not_negative(gamma=gamma)
    logits, labels, where = check_batch(logits, labels, where)
    weights = check_class_vector("class_weights", class_weights, logits)
    return _map_examples(_focal, logits, labels, where, weights, gamma)


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
        where: as :func:`cross_entropy_loss`.

    Returns:
        One value per example ``[...]``, not reduced.

    Raises:
        TypeError, ValueError: as :func:`cross_entropy_loss`; also if ``scale`` is not above 0.

    Reference:
        Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss,
        NeurIPS 2019; Eq. (5) of Sadi et al.
    """
    check_positive(scale=scale)
    logits, labels, where = check_batch(logits, labels, where)
    margins = check_class_vector("margins", margins, logits)
    return _map_examples(_ldam, logits, labels, where, margins, scale)


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

    The focal part is weighted by the margins. With ``scale=1`` this is Eq. (8) as printed. The
    batch loss of the authors' code divides the two parts differently: see
    :func:`lmf_jax.losses.make_objective`.

    Args:
        logits: ``[..., C]``, as :func:`cross_entropy_loss`.
        labels: ``[...]``, as :func:`cross_entropy_loss`.
        margins: ``[C]``, from :func:`lmf_jax.class_margins`.
        alpha: weight of the LDAM part, at least 0; the paper finds 0.5 to 2 best.
        beta: weight of the focal part, at least 0; likewise.
        gamma: focusing parameter of the focal part, at least 0.
        scale: scale of the logits in the LDAM part, above 0.
        where: as :func:`cross_entropy_loss`.

    Returns:
        One value per example ``[...]``, not reduced.

    Raises:
        TypeError, ValueError: as :func:`cross_entropy_loss`; also if ``alpha``, ``beta`` or
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
    return _map_examples(_lmf, logits, labels, where, margins, alpha, beta, gamma, scale)


def balanced_softmax_loss(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    class_counts: ClassCounts,
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    r"""Cross entropy of a softmax that knows the class counts, :math:`p_j \propto n_j e^{z_j}`.

    Args:
        logits: ``[..., C]``, as :func:`cross_entropy_loss`.
        labels: ``[...]``, as :func:`cross_entropy_loss`.
        class_counts: training examples per class, ``[C]``.
        where: as :func:`cross_entropy_loss`.

    Returns:
        One value per example ``[...]``, not reduced; the same as logit adjustment at ``tau=1``.

    Raises:
        TypeError, ValueError: as :func:`cross_entropy_loss` and :func:`lmf_jax.class_margins`.

    Reference:
        Ren et al., Balanced Meta-Softmax for Long-Tailed Visual Recognition, NeurIPS 2020.
    """
    return logit_adjusted_loss(logits, labels, class_counts, tau=1.0, where=where)


def logit_adjusted_loss(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    class_counts: ClassCounts,
    *,
    tau: Scalar = 1.0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    r"""Cross entropy of the logits :math:`z_j + \tau \log \pi_j`, :math:`\pi` the class priors.

    Args:
        logits: ``[..., C]``, as :func:`cross_entropy_loss`.
        labels: ``[...]``, as :func:`cross_entropy_loss`.
        class_counts: training examples per class, ``[C]``.
        tau: strength of the adjustment, at least 0; at 0 this is cross entropy.
        where: as :func:`cross_entropy_loss`.

    Returns:
        One value per example ``[...]``, not reduced.

    Raises:
        TypeError, ValueError: as :func:`cross_entropy_loss` and :func:`lmf_jax.class_margins`;
            also if ``tau`` is negative.

    Reference:
        Menon et al., Long-tail learning via logit adjustment, ICLR 2021, Eq. (10).
    """
    check_not_negative(tau=tau)
    logits, labels, where = check_batch(logits, labels, where)
    counts = check_class_counts(class_counts)
    priors = check_class_vector("class_counts", np.log(counts / counts.sum()), logits, signed=True)
    return _map_examples(_logit_adjusted, logits, labels, where, priors, tau)


# One example: logits [C], label [] -> []


def _cross_entropy(logits: Array, label: Array, class_weights: Array) -> Array:
    return class_weights[label] * softplus(_log_odds_against(logits, label, 1))


def _focal(logits: Array, label: Array, class_weights: Array, gamma: Array) -> Array:
    cross_entropy, of_the_rest = softplus_both(_log_odds_against(logits, label, 1))
    # (1 - p)**gamma in log space: the power itself has no finite slope at 0 for gamma < 1.
    return class_weights[label] * jnp.exp(-gamma * of_the_rest) * cross_entropy


def _ldam(logits: Array, label: Array, margins: Array, scale: Array) -> Array:
    return softplus(_log_odds_against(logits, label, scale) + scale * margins[label])


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


def _logit_adjusted(logits: Array, label: Array, log_priors: Array, tau: Array) -> Array:
    return softplus(_log_odds_against(logits + tau * log_priors, label, 1))


@jax.custom_jvp
def _log_odds_against(
    logits: Float[Array, " classes"], label: Integer[Array, ""], scale: ArrayLike
) -> Float[Array, ""]:
    """Return d of the scaled logits.

    The scale is an argument and the slope is written by hand so that several scales of the same
    logits share everything but the exponentials, and the slopes need no exponentials of their own.
    """
    return _log_odds_and_shares(logits, label, scale)[0]


@partial(_log_odds_against.defjvp, symbolic_zeros=True)
def _log_odds_slope(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    logits, label, scale = primals
    log_odds, shares = _log_odds_and_shares(logits, label, scale)
    by_logits = jnp.where(jnp.arange(len(logits), dtype=label.dtype) == label, -1, shares)
    along = jnp.zeros_like(logits)
    for tangent, factor in ((tangents[0], scale), (tangents[2], logits)):
        if not isinstance(tangent, SymbolicZero):
            along += tangent * factor
    return log_odds, jnp.sum(by_logits * along)


def _log_odds_and_shares(
    logits: Float[Array, " classes"], label: Integer[Array, ""], scale: ArrayLike
) -> tuple[Float[Array, ""], Float[Array, " classes"]]:
    """Return d, and the softmax over the other classes with 0 at the label."""
    others = jnp.where(jnp.arange(len(logits), dtype=label.dtype) == label, -jnp.inf, logits)
    largest = jax.lax.stop_gradient(jnp.max(others))
    largest = jnp.where(jnp.isfinite(largest), largest, 0)
    powers = jnp.exp(scale * (others - largest))
    total = jax.lax.platform_dependent(powers, cpu=_sum_by_product, default=jnp.sum)
    return jnp.log(total) + scale * (largest - logits[label]), powers / total


def _sum_by_product(values: Array) -> Array:
    # On a CPU XLA takes half as long for a product with ones as for a sum over the last axis.
    return jnp.dot(values, jnp.ones_like(values))


# From one example to all


@partial(jax.jit, static_argnums=0)
def _map_examples(
    example_loss: Callable[..., Array],
    logits: Float[Array, "*batch classes"],
    labels: Integer[Array, "*batch"],
    where: Bool[Array, "*batch"] | None,
    *parameters: ArrayLike,
) -> Float[Array, "*batch"]:
    """Apply the loss of one example to all; one jitted program per loss and shape."""
    if where is not None:
        # Before the loss, so that a masked NaN reaches neither the value nor the gradient.
        logits = jnp.where(where[..., None], logits, 0)
        labels = jnp.where(where, labels, 0)
    num_classes = logits.shape[-1]
    one = partial(_example, example_loss, parameters)
    values = jnp.vectorize(one, signature="(c),()->()")(logits, labels)
    # No error can be raised inside jit, and a clipped label would be a wrong number.
    values = jnp.where((labels >= 0) & (labels < num_classes), values, jnp.nan)
    return values if where is None else jnp.where(where, values, 0)


def _example(
    example_loss: Callable[..., Array], parameters: tuple, logits: Array, label: Array
) -> Array:
    return example_loss(logits, label, *(jnp.asarray(p, logits.dtype) for p in parameters))
