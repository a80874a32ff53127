"""Compound losses: segmentation losses that add an overlap loss and a voxel loss.

Where the paper of Yeung et al. and their code differ, ``form="released"`` is the code and
``form="paper"`` the paper as printed.
"""

from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer

from lmf_jax.losses.checks import Scalar, check_fraction, check_maps, check_positive
from lmf_jax.losses.label_maps import (
    MIXED_FOCAL,
    UNIFIED_FOCAL,
    Overlap,
    PerClass,
    PublishedForm,
    VoxelLoss,
    Voxels,
    map_samples,
    mean_overlap_loss,
    mean_voxel_loss,
)
from lmf_jax.losses.overlap_losses import (
    asymmetric_overlap,
    check_overlap,
    classes_in_sum,
    focal_overlap,
    symmetric_overlap,
)
from lmf_jax.losses.registry import register_segmentation_loss
from lmf_jax.losses.voxel_losses import (
    asymmetric_parameters,
    channel_weights,
    focal_parameters,
    symmetric_parameters,
)


@register_segmentation_loss(
    "combo",
    summary="weighted cross entropy - Dice",
    paper="Taghanaki et al. 2019, arXiv 1805.02798",
)
def combo_loss(
    logits: Float[ArrayLike, "batch *space classes"],
    labels: Integer[ArrayLike, "batch *space"],
    *,
    weight: Scalar = 0.5,
    background_weight: Scalar = 0.5,
    smooth: Scalar = 1e-6,
    where: Bool[ArrayLike, " batch"] | None = None,
) -> Float[Array, " batch"]:
    r"""Combo loss, :math:`a\,CE - (1 - a)\,DSC`; its minimum is :math:`a - 1`.

    CE is the mean over the voxels of cross entropy, with weight :math:`\beta` in the background and
    :math:`1 - \beta` in the foreground; DSC is the mean over the classes of the Tversky index at
    :math:`\delta = 1/2`.

    Args:
        logits: ``[B, *space, C]``, as :func:`dice_loss`.
        labels: ``[B, *space]``, as :func:`dice_loss`.
        weight: :math:`a`, weight of the cross entropy, in [0, 1].
        background_weight: :math:`\beta`, in [0, 1]. As in :func:`modified_focal_loss`, the code of
            Yeung et al. applies it to class 0; Taghanaki et al. apply it to the foreground.
        smooth: As :func:`dice_loss`.
        where: As :func:`dice_loss`.

    Returns:
        One value per sample ``[B]``.

    Raises:
        TypeError, ValueError: As :func:`dice_loss`; also if a weight is outside [0, 1].

    Reference:
        Taghanaki et al., Combo Loss: Handling Input and Output Imbalance in Multi-Organ
        Segmentation, Computerized Medical Imaging and Graphics 2019, as in the code of Yeung et al.
    """
    check_fraction(weight=weight)
    check_positive(smooth=smooth)
    overlap = Overlap(0.5, smooth, PerClass(1, 1))
    voxel_loss = VoxelLoss(weights=channel_weights(background_weight))
    logits, labels, where = check_maps(logits, labels, where)
    return map_samples(_combo, logits, labels, where, 1 - weight, overlap, weight, voxel_loss)


@register_segmentation_loss(
    "mixed-focal",
    summary="modified focal Dice + modified focal",
    paper=MIXED_FOCAL,
)
def mixed_focal_loss(
    logits: Float[ArrayLike, "batch *space classes"],
    labels: Integer[ArrayLike, "batch *space"],
    class_weights: Float[ArrayLike, " classes"] | None = None,
    *,
    weight: Scalar | None = None,
    background_weight: Scalar | None = None,
    delta: Scalar = 0.7,
    gamma: Scalar = 2.0,
    gamma_dice: Scalar = 0.75,
    smooth: Scalar = 1e-6,
    form: PublishedForm = "released",
    where: Bool[ArrayLike, " batch"] | None = None,
) -> Float[Array, " batch"]:
    r"""Mixed Focal loss: modified focal Dice + modified focal.

    With a weight it is :math:`\lambda L_{focal Dice} + (1 - \lambda) L_{focal}`.

    Args:
        logits: ``[B, *space, C]``, as :func:`dice_loss`.
        labels: ``[B, *space]``, as :func:`dice_loss`.
        class_weights: Of the focal part, as :func:`segmentation_focal_loss`.
        weight: :math:`\lambda`, in [0, 1]; by default both parts have weight 1.
        background_weight: :math:`\beta` of the focal part, as :func:`modified_focal_loss`.
        delta: Of the Dice part, as :func:`tversky_loss`.
        gamma: Of the focal part, as :func:`segmentation_focal_loss`.
        gamma_dice: Exponent of the Dice part, as gamma of :func:`focal_tversky_loss`.
        smooth: As :func:`dice_loss`.
        form: ``"released"``, or ``"paper"``: the focal part has the weight :math:`\lambda` and the
            Dice part, a sum over the classes, :math:`1 - \lambda`, as printed.
        where: As :func:`dice_loss`.

    Returns:
        One value per sample ``[B]``.

    Raises:
        TypeError, ValueError: As :func:`focal_tversky_loss` and :func:`modified_focal_loss`; also
            if ``weight`` is outside [0, 1].

    Example:
        >>> import jax.numpy as jnp
        >>> from lmf_jax.losses import mixed_focal_loss
        >>> logits = jnp.array([[[2.0, -1.0], [0.5, 1.5]], [[1.0, 0.0], [-1.0, 2.0]]])
        >>> loss = mixed_focal_loss(logits[None], jnp.array([[[0, 1], [0, 0]]]))
        >>> print(f"{loss[0]:.2f}")
        1.20

    Reference:
        Yeung et al., A Mixed Focal Loss Function for Handling Class Imbalanced Medical Image
        Segmentation, arXiv 2102.04525v1.
    """
    overlap = focal_overlap(delta, gamma_dice, smooth)
    logits, labels, where = check_maps(logits, labels, where)
    voxel_loss = focal_parameters(logits, class_weights, background_weight, gamma)
    return _map_compounds(logits, labels, weight, overlap, voxel_loss, form, where)


@register_segmentation_loss(
    "symmetric-unified-focal",
    summary="symmetric focal Tversky + symmetric focal",
    paper=UNIFIED_FOCAL,
)
def symmetric_unified_focal_loss(
    logits: Float[ArrayLike, "batch *space classes"],
    labels: Integer[ArrayLike, "batch *space"],
    *,
    weight: Scalar = 0.5,
    delta: Scalar = 0.6,
    gamma: Scalar = 0.5,
    smooth: Scalar = 1e-7,
    form: PublishedForm = "released",
    where: Bool[ArrayLike, " batch"] | None = None,
) -> Float[Array, " batch"]:
    r"""Symmetric Unified Focal loss, :math:`\lambda L_{focal Tversky} + (1 - \lambda) L_{focal}`.

    The parts are :func:`symmetric_focal_tversky_loss` and :func:`symmetric_focal_loss`.

    Args:
        logits: ``[B, *space, C]``, as :func:`dice_loss`.
        labels: ``[B, *space]``, as :func:`dice_loss`.
        weight: :math:`\lambda`, in [0, 1].
        delta: Of both parts, in [0, 1].
        gamma: Of both parts, in [0, 1].
        smooth: As :func:`dice_loss`.
        form: ``"released"``, or ``"paper"``: both parts in that form, and :math:`\lambda` is the
            weight of the focal part, as printed.
        where: As :func:`dice_loss`.

    Returns:
        One value per sample ``[B]``.

    Raises:
        TypeError, ValueError: As :func:`symmetric_focal_tversky_loss`; also if ``weight`` is
            outside [0, 1].

    Reference:
        Yeung et al., Unified Focal loss: Generalising Dice and cross entropy-based losses to handle
        class imbalanced medical image segmentation, Computerized Medical Imaging and Graphics 2022,
        arXiv 2102.04525.
    """
    # In each form one of the two requires that gamma is in [0, 1].
    overlap = symmetric_overlap(delta, gamma, smooth, form)
    voxel_loss = symmetric_parameters(delta, gamma, form)
    logits, labels, where = check_maps(logits, labels, where)
    return _map_compounds(logits, labels, weight, overlap, voxel_loss, form, where)


@register_segmentation_loss(
    "asymmetric-unified-focal",
    summary="asymmetric focal Tversky + asymmetric focal",
    paper=UNIFIED_FOCAL,
)
def asymmetric_unified_focal_loss(
    logits: Float[ArrayLike, "batch *space classes"],
    labels: Integer[ArrayLike, "batch *space"],
    *,
    weight: Scalar = 0.5,
    delta: Scalar = 0.6,
    gamma: Scalar = 0.5,
    smooth: Scalar = 1e-7,
    form: PublishedForm = "released",
    where: Bool[ArrayLike, " batch"] | None = None,
) -> Float[Array, " batch"]:
    r"""Asymmetric Unified Focal loss, :math:`\lambda L_{focal Tversky} + (1 - \lambda) L_{focal}`.

    The parts are :func:`asymmetric_focal_tversky_loss` and :func:`asymmetric_focal_loss`.

    Args:
        logits: ``[B, *space, C]``, as :func:`dice_loss`.
        labels: ``[B, *space]``, as :func:`dice_loss`.
        weight: :math:`\lambda`, in [0, 1].
        delta: Of both parts, in [0, 1].
        gamma: Of both parts, in [0, 1].
        smooth: As :func:`dice_loss`.
        form: As :func:`symmetric_unified_focal_loss`; here the exponents are the same in both.
        where: As :func:`dice_loss`.

    Returns:
        One value per sample ``[B]``.

    Raises:
        TypeError, ValueError: As :func:`symmetric_unified_focal_loss`.

    Reference:
        Yeung et al., Unified Focal loss, Computerized Medical Imaging and Graphics 2022.
    """
    overlap = asymmetric_overlap(delta, gamma, smooth)
    voxel_loss = asymmetric_parameters(delta, gamma)
    logits, labels, where = check_maps(logits, labels, where)
    return _map_compounds(logits, labels, weight, overlap, voxel_loss, form, where)


def _map_compounds(
    logits: Float[Array, "batch *space classes"],
    labels: Integer[Array, "batch *space"],
    weight: Scalar | None,
    overlap: Overlap,
    voxel_loss: VoxelLoss,
    form: PublishedForm,
    where: Bool[Array, " batch"] | None,
) -> Float[Array, " batch"]:
    """Weight and add the two parts of every sample."""
    check_overlap(overlap)
    weights: tuple[Scalar, Scalar] = (1, 1)  # of the overlap and of the voxel loss
    if weight is not None:
        check_fraction(weight=weight)
        weights = (1 - weight, weight) if form == "paper" else (weight, 1 - weight)
    coefficient = weights[0] * classes_in_sum(form, logits.shape[-1])
    return map_samples(
        _compound, logits, labels, where, coefficient, overlap, weights[1], voxel_loss
    )


# One sample


def _compound(
    voxels: Voxels,
    overlap_coefficient: Array,
    overlap: Overlap,
    voxel_coefficient: Array,
    voxel_loss: VoxelLoss,
) -> Float[Array, ""]:
    overlap_part = overlap_coefficient * mean_overlap_loss(voxels, overlap)
    return overlap_part + voxel_coefficient * mean_voxel_loss(voxels, voxel_loss)


def _combo(
    voxels: Voxels,
    dice_weight: Array,
    dice: Overlap,
    voxel_weight: Array,
    cross_entropy: VoxelLoss,
) -> Float[Array, ""]:
    # Combo subtracts the index: dice_weight * (1 - TI) - dice_weight.
    return _compound(voxels, dice_weight, dice, voxel_weight, cross_entropy) - dice_weight
