r"""Overlap losses: segmentation losses from the Tversky index of each class and sample.

.. math:: TI_c = \frac{tp + s}{tp + \delta\,fn + (1 - \delta)\,fp + s}

with the soft counts :math:`tp = \sum y p`, :math:`fn = \sum y (1 - p)` and
:math:`fp = \sum (1 - y) p` of one sample and class. A class that a sample lacks has
:math:`TI = s / ((1 - \delta) fp + s)`: 1 if it is not predicted, and near 0 as soon as its
probabilities add up to one voxel.

The code of Yeung et al. clips the probabilities of the focal forms to [1e-7, 1 - 1e-7], and the
gradient of a clipped voxel is 0. Nothing is clipped here: the values agree within these bounds, and
outside them wrong voxels still have a gradient.
"""

from typing import get_args

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer

from lmf_jax.losses.checks import (
    Scalar,
    check_choice,
    check_fraction,
    check_maps,
    check_not_negative,
    check_positive,
    check_whole,
)
from lmf_jax.losses.label_maps import (
    MIXED_FOCAL,
    UNIFIED_FOCAL,
    Overlap,
    PerClass,
    PublishedForm,
    Voxels,
    map_samples,
    mean_overlap_loss,
    overlap_complements,
)
from lmf_jax.losses.registry import register_segmentation_loss


@register_segmentation_loss(
    "dice",
    summary="1 - soft Dice",
    paper="Milletari et al. 2016, arXiv 1606.04797",
)
def dice_loss(
    logits: Float[ArrayLike, "batch *space classes"],
    labels: Integer[ArrayLike, "batch *space"],
    *,
    smooth: Scalar = 1e-6,
    where: Bool[ArrayLike, " batch"] | None = None,
) -> Float[Array, " batch"]:
    r"""Soft Dice loss, the mean over the classes of 1 - DSC; Tversky at :math:`\delta = 1/2`.

    Args:
        logits: Unnormalized log probabilities ``[B, *space, C]`` with any number of spatial
            dimensions; half precision is computed in float32.
        labels: Class ids ``[B, *space]`` in ``[0, C)``, 0 the background; a sample with a label
            outside gives NaN.
        smooth: :math:`s`, above 0; the smaller, the higher the cost of predicting a class that
            the sample lacks.
        where: Mask ``[B]``; a masked sample gives exactly 0 with gradient 0, whatever its logits
            and labels are.

    Returns:
        One value per sample ``[B]``; the batch loss is their mean.

    Raises:
        TypeError: If ``logits`` are not floats, ``labels`` not integers or ``where`` not booleans.
        ValueError: If shapes do not match or ``smooth`` is not above 0.

    Reference:
        Milletari et al., V-Net, 3DV 2016, arXiv 1606.04797, for one class and with squared
        probabilities in the denominator; here as in the code of Yeung et al.
    """
    return tversky_loss(logits, labels, delta=0.5, smooth=smooth, where=where)


@register_segmentation_loss(
    "tversky",
    summary="1 - Tversky index",
    paper="Salehi et al. 2017, arXiv 1706.05721",
)
def tversky_loss(
    logits: Float[ArrayLike, "batch *space classes"],
    labels: Integer[ArrayLike, "batch *space"],
    *,
    delta: Scalar = 0.7,
    smooth: Scalar = 1e-6,
    where: Bool[ArrayLike, " batch"] | None = None,
) -> Float[Array, " batch"]:
    """Tversky loss, the mean over the classes of 1 - TI.

    Args:
        logits: ``[B, *space, C]``, as :func:`dice_loss`.
        labels: ``[B, *space]``, as :func:`dice_loss`.
        delta: Weight of false negatives, in [0, 1]; false positives get 1 - delta.
        smooth: As :func:`dice_loss`.
        where: As :func:`dice_loss`.

    Returns:
        One value per sample ``[B]``.

    Raises:
        TypeError, ValueError: As :func:`dice_loss`; also if ``delta`` is outside [0, 1].

    Reference:
        Salehi et al., Tversky Loss Function for Image Segmentation Using 3D Fully Convolutional
        Deep Networks, MLMI 2017.
    """
    return _map_overlaps(logits, labels, Overlap(delta, smooth, PerClass(1, 1)), "released", where)


@register_segmentation_loss(
    "focal-tversky",
    summary="(1 - Tversky index)^gamma",
    paper="Abraham and Khan 2019, arXiv 1810.07842",
)
def focal_tversky_loss(
    logits: Float[ArrayLike, "batch *space classes"],
    labels: Integer[ArrayLike, "batch *space"],
    *,
    delta: Scalar = 0.7,
    gamma: Scalar = 0.75,
    smooth: Scalar = 1e-6,
    form: PublishedForm = "released",
    where: Bool[ArrayLike, " batch"] | None = None,
) -> Float[Array, " batch"]:
    r"""Focal Tversky loss, the mean over the classes of :math:`(1 - TI)^\gamma`.

    Args:
        logits: ``[B, *space, C]``, as :func:`dice_loss`.
        labels: ``[B, *space]``, as :func:`dice_loss`.
        delta: As :func:`tversky_loss`.
        gamma: Exponent, at least 0. At 1 this is Tversky; below 1 the gradient stays large near
            complete overlap.
        smooth: As :func:`dice_loss`.
        form: ``"released"``, or ``"paper"``: the sum over the classes, as printed.
        where: As :func:`dice_loss`.

    Returns:
        One value per sample ``[B]``.

    Raises:
        TypeError, ValueError: As :func:`tversky_loss`; also if ``gamma`` is negative or ``form``
            is unknown.

    Reference:
        Abraham and Khan, A Novel Focal Tversky Loss Function with Improved Attention U-Net for
        Lesion Segmentation, ISBI 2019, who write the exponent as 1 / gamma.
    """
    return _map_overlaps(logits, labels, focal_overlap(delta, gamma, smooth), form, where)


@register_segmentation_loss(
    "modified-focal-dice",
    summary="focal Tversky by its name in Mixed Focal",
    paper=MIXED_FOCAL,
)
def modified_focal_dice_loss(
    logits: Float[ArrayLike, "batch *space classes"],
    labels: Integer[ArrayLike, "batch *space"],
    *,
    delta: Scalar = 0.7,
    gamma: Scalar = 0.75,
    smooth: Scalar = 1e-6,
    form: PublishedForm = "released",
    where: Bool[ArrayLike, " batch"] | None = None,
) -> Float[Array, " batch"]:
    """Compute :func:`focal_tversky_loss` by its name in Mixed Focal, modified focal Dice.

    Args:
        logits: ``[B, *space, C]``, as :func:`dice_loss`.
        labels: ``[B, *space]``, as :func:`dice_loss`.
        delta: As :func:`tversky_loss`.
        gamma: As :func:`focal_tversky_loss`.
        smooth: As :func:`dice_loss`.
        form: As :func:`focal_tversky_loss`.
        where: As :func:`dice_loss`.

    Returns:
        One value per sample ``[B]``.

    Raises:
        TypeError, ValueError: As :func:`focal_tversky_loss`.

    Reference:
        Yeung et al., A Mixed Focal Loss Function, arXiv 2102.04525v1: the Dice part of Mixed Focal.
    """
    return focal_tversky_loss(
        logits, labels, delta=delta, gamma=gamma, smooth=smooth, form=form, where=where
    )


@register_segmentation_loss(
    "cosine-tversky",
    summary="1 - cos(pi * Tversky index), with its sign as published, which looks wrong",
    paper=MIXED_FOCAL,
)
def cosine_tversky_loss(
    logits: Float[ArrayLike, "batch *space classes"],
    labels: Integer[ArrayLike, "batch *space"],
    *,
    delta: Scalar = 0.7,
    gamma: Scalar = 1,
    smooth: Scalar = 1e-6,
    where: Bool[ArrayLike, " batch"] | None = None,
) -> Float[Array, " batch"]:
    r"""Cosine Tversky loss as published, the mean of :math:`1 - \cos(\pi\,TI)^\gamma`.

    Warning:
        The published sign looks wrong: at an odd ``gamma`` the loss is 0 without any overlap and 2
        at full overlap, so minimizing it removes the overlap. It is included for comparison.

    Args:
        logits: ``[B, *space, C]``, as :func:`dice_loss`.
        labels: ``[B, *space]``, as :func:`dice_loss`.
        delta: As :func:`tversky_loss`.
        gamma: Exponent, a whole number of at least 1; other powers of negative cosines are not
            real.
        smooth: As :func:`dice_loss`.
        where: As :func:`dice_loss`.

    Returns:
        One value per sample ``[B]``, in [0, 2].

    Raises:
        TypeError, ValueError: As :func:`tversky_loss`; also if ``gamma`` is not a whole number of
            at least 1.

    Reference:
        Yeung et al., A Mixed Focal Loss Function, arXiv 2102.04525v1.
    """
    check_whole(gamma=gamma)
    logits, labels, where = check_maps(logits, labels, where)
    check_overlap(Overlap(delta, smooth, PerClass(1, 1)))
    return map_samples(_cosine, logits, labels, where, delta, smooth, gamma)


@register_segmentation_loss(
    "symmetric-focal-tversky",
    summary="(1 - Tversky index)^(1 - gamma)",
    paper=UNIFIED_FOCAL,
)
def symmetric_focal_tversky_loss(
    logits: Float[ArrayLike, "batch *space classes"],
    labels: Integer[ArrayLike, "batch *space"],
    *,
    delta: Scalar = 0.7,
    gamma: Scalar = 0.75,
    smooth: Scalar = 1e-7,
    form: PublishedForm = "released",
    where: Bool[ArrayLike, " batch"] | None = None,
) -> Float[Array, " batch"]:
    r"""Symmetric focal Tversky loss, the mean over the classes of :math:`(1 - TI)^{1 - \gamma}`.

    Args:
        logits: ``[B, *space, C]``, as :func:`dice_loss`.
        labels: ``[B, *space]``, as :func:`dice_loss`.
        delta: As :func:`tversky_loss`.
        gamma: Focusing parameter, in [0, 1]; at 0 this is Tversky.
        smooth: As :func:`dice_loss`.
        form: ``"released"``, or ``"paper"``: the sum over the classes with the exponent
            :math:`\gamma`, at least 0, as printed.
        where: As :func:`dice_loss`.

    Returns:
        One value per sample ``[B]``.

    Raises:
        TypeError, ValueError: As :func:`tversky_loss`; also if ``gamma`` is out of its range or
            ``form`` is unknown.

    Reference:
        Yeung et al., Unified Focal loss, Computerized Medical Imaging and Graphics 2022.
    """
    overlap = symmetric_overlap(delta, gamma, smooth, form)
    return _map_overlaps(logits, labels, overlap, form, where)


@register_segmentation_loss(
    "asymmetric-focal-tversky",
    summary="symmetric focal Tversky, but the background has no exponent",
    paper=UNIFIED_FOCAL,
)
def asymmetric_focal_tversky_loss(
    logits: Float[ArrayLike, "batch *space classes"],
    labels: Integer[ArrayLike, "batch *space"],
    *,
    delta: Scalar = 0.7,
    gamma: Scalar = 0.75,
    smooth: Scalar = 1e-7,
    form: PublishedForm = "released",
    where: Bool[ArrayLike, " batch"] | None = None,
) -> Float[Array, " batch"]:
    r"""Asymmetric focal Tversky loss: :math:`1 - TI` for the background.

    Every class from 1 on has :math:`(1 - TI)^{1 - \gamma}`; then the mean over the classes.

    Args:
        logits: ``[B, *space, C]``, as :func:`dice_loss`.
        labels: ``[B, *space]``, as :func:`dice_loss`.
        delta: As :func:`tversky_loss`.
        gamma: Focusing parameter of the foreground, in [0, 1]; at 0 this is Tversky.
        smooth: As :func:`dice_loss`.
        form: ``"released"``, or ``"paper"``: the sum over the classes, as printed.
        where: As :func:`dice_loss`.

    Returns:
        One value per sample ``[B]``.

    Raises:
        TypeError, ValueError: As :func:`tversky_loss`; also if ``gamma`` is outside [0, 1] or
            ``form`` is unknown.

    Reference:
        Yeung et al., Unified Focal loss, Computerized Medical Imaging and Graphics 2022.
    """
    overlap = asymmetric_overlap(delta, gamma, smooth)
    return _map_overlaps(logits, labels, overlap, form, where)


# Parameters shared with the compound losses


def focal_overlap(delta: Scalar, gamma: Scalar, smooth: Scalar) -> Overlap:
    """Return the parameters of the focal Tversky loss."""
    check_not_negative(gamma=gamma)
    return Overlap(delta, smooth, PerClass(gamma, gamma))


def symmetric_overlap(delta: Scalar, gamma: Scalar, smooth: Scalar, form: PublishedForm) -> Overlap:
    """Return the parameters of the symmetric focal Tversky loss."""
    if form == "paper":
        return focal_overlap(delta, gamma, smooth)
    check_fraction(gamma=gamma)
    return Overlap(delta, smooth, PerClass(1 - gamma, 1 - gamma))


def asymmetric_overlap(delta: Scalar, gamma: Scalar, smooth: Scalar) -> Overlap:
    """Return the parameters of the asymmetric focal Tversky loss."""
    check_fraction(gamma=gamma)
    return Overlap(delta, smooth, PerClass(background=1, foreground=1 - gamma))


def check_overlap(overlap: Overlap) -> None:
    """Raise if delta or the smoothing is out of its range."""
    check_fraction(delta=overlap.delta)
    check_positive(smooth=overlap.smooth)


def classes_in_sum(form: PublishedForm, num_classes: int) -> int:
    """Return the factor of the mean over the classes; the paper prints a sum instead."""
    check_choice("form", form, get_args(PublishedForm))
    return num_classes if form == "paper" else 1


def _map_overlaps(
    logits: ArrayLike,
    labels: ArrayLike,
    overlap: Overlap,
    form: PublishedForm,
    where: ArrayLike | None,
) -> Float[Array, " batch"]:
    check_overlap(overlap)
    logits, labels, where = check_maps(logits, labels, where)
    coefficient = classes_in_sum(form, logits.shape[-1])
    return map_samples(_overlap, logits, labels, where, coefficient, overlap)


# One sample


def _overlap(voxels: Voxels, coefficient: Array, overlap: Overlap) -> Float[Array, ""]:
    return coefficient * mean_overlap_loss(voxels, overlap)


def _cosine(voxels: Voxels, delta: Array, smooth: Array, gamma: Array) -> Float[Array, ""]:
    index = 1 - overlap_complements(voxels, delta, smooth)
    return jnp.mean(1 - jnp.cos(jnp.pi * index) ** gamma)
