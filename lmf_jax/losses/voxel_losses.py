r"""Voxel losses: segmentation losses that are the mean of a weighted, focused cross entropy.

With :math:`CE = -\log p_y` of a voxel with label y, they are :math:`w_y (1 - p_y)^{g_y} CE`. The
weights w and the exponents g have one value for the background, class 0, and one for the
foreground, all other classes. Nothing is clipped: see :mod:`lmf_jax.losses.overlap_losses`.
"""

from typing import get_args

from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer

from lmf_jax.losses.checks import (
    Scalar,
    check_choice,
    check_class_vector,
    check_fraction,
    check_maps,
    check_not_negative,
)
from lmf_jax.losses.label_maps import (
    MIXED_FOCAL,
    UNIFIED_FOCAL,
    PerClass,
    PublishedForm,
    VoxelLoss,
    map_samples,
    mean_voxel_loss,
)
from lmf_jax.losses.registry import register_segmentation_loss


@register_segmentation_loss(
    "segmentation-focal",
    summary="focal loss, the mean over the voxels of a sample",
    paper="Lin et al. 2017, arXiv 1708.02002",
)
def segmentation_focal_loss(
    logits: Float[ArrayLike, "batch *space classes"],
    labels: Integer[ArrayLike, "batch *space"],
    class_weights: Float[ArrayLike, " classes"] | None = None,
    *,
    gamma: Scalar = 2.0,
    where: Bool[ArrayLike, " batch"] | None = None,
) -> Float[Array, " batch"]:
    r"""Focal loss of a label map, the mean over voxels of :math:`\alpha_y (1 - p_y)^\gamma CE`.

    Args:
        logits: ``[B, *space, C]``, as :func:`dice_loss`.
        labels: ``[B, *space]``, as :func:`dice_loss`.
        class_weights: :math:`\alpha`, ``[C]``, not negative; all 1 if not given.
        gamma: Focusing parameter, at least 0; at 0 this is cross entropy.
        where: As :func:`dice_loss`.

    Returns:
        One value per sample ``[B]``; :func:`lmf_jax.focal_loss` has one per voxel.

    Raises:
        TypeError: If ``logits`` are not floats, ``labels`` not integers or ``where`` not booleans.
        ValueError: If shapes or lengths do not match, ``gamma`` is negative or a weight is
            negative or not finite.

    Reference:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017.
    """
    return modified_focal_loss(logits, labels, class_weights, gamma=gamma, where=where)


@register_segmentation_loss(
    "modified-focal",
    summary="focal loss with the background weighted",
    paper=MIXED_FOCAL,
)
def modified_focal_loss(
    logits: Float[ArrayLike, "batch *space classes"],
    labels: Integer[ArrayLike, "batch *space"],
    class_weights: Float[ArrayLike, " classes"] | None = None,
    *,
    background_weight: Scalar | None = None,
    gamma: Scalar = 2.0,
    where: Bool[ArrayLike, " batch"] | None = None,
) -> Float[Array, " batch"]:
    r"""Compute the focal loss with weight :math:`\beta` of the background, the modified focal loss.

    The foreground has weight :math:`1 - \beta`.

    Args:
        logits: ``[B, *space, C]``, as :func:`dice_loss`.
        labels: ``[B, *space]``, as :func:`dice_loss`.
        class_weights: As :func:`segmentation_focal_loss`.
        background_weight: :math:`\beta`, in [0, 1]; without it this is
            :func:`segmentation_focal_loss`. The authors' code applies it to class 0, although
            their text says that a large :math:`\beta` penalizes false negatives of the foreground.
        gamma: As :func:`segmentation_focal_loss`.
        where: As :func:`dice_loss`.

    Returns:
        One value per sample ``[B]``.

    Raises:
        TypeError, ValueError: As :func:`segmentation_focal_loss`; also if ``background_weight`` is
            outside [0, 1].

    Reference:
        Yeung et al., A Mixed Focal Loss Function, arXiv 2102.04525v1: the focal part of Mixed
        Focal.
    """
    logits, labels, where = check_maps(logits, labels, where)
    parameters = focal_parameters(logits, class_weights, background_weight, gamma)
    return map_samples(mean_voxel_loss, logits, labels, where, parameters)


@register_segmentation_loss(
    "symmetric-focal",
    summary="focal loss weighted by delta",
    paper=UNIFIED_FOCAL,
)
def symmetric_focal_loss(
    logits: Float[ArrayLike, "batch *space classes"],
    labels: Integer[ArrayLike, "batch *space"],
    *,
    delta: Scalar = 0.7,
    gamma: Scalar | None = None,
    form: PublishedForm = "released",
    where: Bool[ArrayLike, " batch"] | None = None,
) -> Float[Array, " batch"]:
    r"""Symmetric focal loss, :math:`(1 - p_y)^\gamma CE` weighted by class.

    The foreground has weight :math:`\delta`, the background :math:`1 - \delta`.

    Args:
        logits: ``[B, *space, C]``, as :func:`dice_loss`.
        labels: ``[B, *space]``, as :func:`dice_loss`.
        delta: Weight of the foreground, in [0, 1].
        gamma: Focusing parameter, at least 0 and by default 2; in [0, 1] and by default 0.5 in the
            paper's form.
        form: ``"released"``, or ``"paper"``: the exponent is :math:`1 - \gamma`, as printed.
        where: As :func:`dice_loss`.

    Returns:
        One value per sample ``[B]``.

    Raises:
        TypeError, ValueError: As :func:`segmentation_focal_loss`; also if ``delta`` or ``gamma`` is
            out of its range or ``form`` is unknown.

    Reference:
        Yeung et al., Unified Focal loss, Computerized Medical Imaging and Graphics 2022.
    """
    if gamma is None:
        gamma = 0.5 if form == "paper" else 2.0
    parameters = symmetric_parameters(delta, gamma, form)
    logits, labels, where = check_maps(logits, labels, where)
    return map_samples(mean_voxel_loss, logits, labels, where, parameters)


@register_segmentation_loss(
    "asymmetric-focal",
    summary="symmetric focal, but only the background is focused",
    paper=UNIFIED_FOCAL,
)
def asymmetric_focal_loss(
    logits: Float[ArrayLike, "batch *space classes"],
    labels: Integer[ArrayLike, "batch *space"],
    *,
    delta: Scalar = 0.7,
    gamma: Scalar = 2.0,
    where: Bool[ArrayLike, " batch"] | None = None,
) -> Float[Array, " batch"]:
    r"""Asymmetric focal loss: :math:`(1 - \delta)(1 - p_0)^\gamma CE` in the background.

    The foreground has :math:`\delta\,CE`: foreground voxels are never down-weighted.

    Args:
        logits: ``[B, *space, C]``, as :func:`dice_loss`.
        labels: ``[B, *space]``, as :func:`dice_loss`.
        delta: Weight of the foreground, in [0, 1].
        gamma: Focusing parameter of the background, at least 0.
        where: As :func:`dice_loss`.

    Returns:
        One value per sample ``[B]``.

    Raises:
        TypeError, ValueError: As :func:`segmentation_focal_loss`; also if ``delta`` is outside
            [0, 1].

    Reference:
        Yeung et al., Unified Focal loss, Computerized Medical Imaging and Graphics 2022. Its
        Eq. (20) has the wrong class in the logarithm of the background, as the authors confirm.
    """
    parameters = asymmetric_parameters(delta, gamma)
    logits, labels, where = check_maps(logits, labels, where)
    return map_samples(mean_voxel_loss, logits, labels, where, parameters)


# Parameters shared with the compound losses


def focal_parameters(
    logits: Float[Array, "batch *space classes"],
    class_weights: ArrayLike | None,
    background_weight: Scalar | None,
    gamma: Scalar,
) -> VoxelLoss:
    """Return the weights and exponents of the modified focal loss."""
    check_not_negative(gamma=gamma)
    if class_weights is not None:
        class_weights = check_class_vector("class_weights", class_weights, logits)
    weights = None if background_weight is None else channel_weights(background_weight)
    return VoxelLoss(weights, PerClass(gamma, gamma), class_weights)


def channel_weights(background_weight: Scalar) -> PerClass:
    """Return the weights of cross entropy, beta and 1 - beta in the paper."""
    check_fraction(background_weight=background_weight)
    return PerClass(background_weight, 1 - background_weight)


def symmetric_parameters(delta: Scalar, gamma: Scalar, form: PublishedForm) -> VoxelLoss:
    """Return the weights and exponents of the symmetric focal loss."""
    check_fraction(delta=delta)
    check_choice("form", form, get_args(PublishedForm))
    if form == "paper":
        check_fraction(gamma=gamma)
        gamma = 1 - gamma
    else:
        check_not_negative(gamma=gamma)
    return VoxelLoss(PerClass(1 - delta, delta), PerClass(gamma, gamma))


def asymmetric_parameters(delta: Scalar, gamma: Scalar) -> VoxelLoss:
    """Return the weights and exponents of the asymmetric focal loss."""
    check_fraction(delta=delta)
    check_not_negative(gamma=gamma)
    return VoxelLoss(PerClass(1 - delta, delta), PerClass(background=gamma, foreground=0))
