"""Losses of segmentation: pure functions of label maps, one value per sample.

All are called ``(logits [B, *space, C], labels [B, *space], ..., where=[B])`` and return ``[B]``;
the batch loss is the mean. Class 0 is the background.

The losses of Yeung et al. are what their code computes. Their paper differs in the term that the
weight belongs to, in the exponents of the symmetric losses, and in a sum over the classes where the
code takes the mean: ``form="paper"``.
"""

import inspect
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lmf_jax.losses.compound_losses import (
    asymmetric_unified_focal_loss,
    combo_loss,
    mixed_focal_loss,
    symmetric_unified_focal_loss,
)
from lmf_jax.losses.overlap_losses import (
    asymmetric_focal_tversky_loss,
    cosine_tversky_loss,
    dice_loss,
    focal_tversky_loss,
    modified_focal_dice_loss,
    symmetric_focal_tversky_loss,
    tversky_loss,
)
from lmf_jax.losses.voxel_losses import (
    asymmetric_focal_loss,
    modified_focal_loss,
    segmentation_focal_loss,
    symmetric_focal_loss,
)

SEGMENTATION_LOSSES = {
    "dice": "1 - soft Dice (Milletari et al. 2016)",
    "tversky": "1 - Tversky index (Salehi et al. 2017)",
    "focal-tversky": "(1 - Tversky index)^gamma (Abraham and Khan 2019)",
    "cosine-tversky": "1 - cos(pi * Tversky index), with its sign as published, which looks wrong "
    "(Yeung et al. 2021)",
    "segmentation-focal": "focal loss, the mean over the voxels of a sample (Lin et al. 2017)",
    "combo": "weighted cross entropy - Dice (Taghanaki et al. 2019)",
    "modified-focal": "focal loss with the background weighted (Yeung et al. 2021)",
    "modified-focal-dice": "focal Tversky by its name in Mixed Focal (Yeung et al. 2021)",
    "mixed-focal": "modified focal Dice + modified focal (Yeung et al. 2021)",
    "symmetric-focal": "focal loss weighted by delta (Yeung et al. 2022)",
    "asymmetric-focal": "symmetric focal, but only the background is focused (Yeung et al. 2022)",
    "symmetric-focal-tversky": "(1 - Tversky index)^(1 - gamma) (Yeung et al. 2022)",
    "asymmetric-focal-tversky": "symmetric focal Tversky, but the background has no exponent "
    "(Yeung et al. 2022)",
    "symmetric-unified-focal": "symmetric focal Tversky + symmetric focal (Yeung et al. 2022)",
    "asymmetric-unified-focal": "asymmetric focal Tversky + asymmetric focal (Yeung et al. 2022)",
}
"""Every loss by the name that :func:`make_objective` and ``--loss`` take, with its source."""


def segmentation_loss(
    name: str, num_classes: int, *, form: str, **options: float | None
) -> Callable[..., Float[Array, " batch"]]:
    """Return the loss of a name, in a form if it has several, with the options that are not None.

    Args:
        name: one of :data:`SEGMENTATION_LOSSES`.
        num_classes: of the logits.
        form: ``"released"`` or ``"paper"``.
        options: of those that :func:`segmentation_options` names.

    Raises:
        ValueError: if an option is out of its range.
    """
    loss = _FUNCTIONS[name]
    given: dict[str, float | str | None]
    given = {key: value for key, value in options.items() if value is not None}
    if "form" in inspect.signature(loss).parameters:
        given["form"] = form
    loss = partial(loss, **given)
    # Each loss checks its own options, as soon as it is traced.
    logits = jax.ShapeDtypeStruct((1, 1, num_classes), jnp.float32)
    jax.eval_shape(loss, logits, jax.ShapeDtypeStruct((1, 1), jnp.int32))
    return loss


def segmentation_options(name: str) -> tuple[str, ...]:
    """Return the options of an objective that a loss has, as its function names them.

    Args:
        name: one of :data:`SEGMENTATION_LOSSES`.
    """
    parameters = inspect.signature(_FUNCTIONS[name]).parameters
    options = ("gamma", "delta", "weight", "background_weight")
    return tuple(option for option in options if option in parameters)


_FUNCTIONS: dict[str, Callable[..., Float[Array, " batch"]]] = {
    loss.__name__.removesuffix("_loss").replace("_", "-"): loss
    for loss in (
        asymmetric_focal_tversky_loss,
        cosine_tversky_loss,
        dice_loss,
        focal_tversky_loss,
        modified_focal_dice_loss,
        symmetric_focal_tversky_loss,
        tversky_loss,
        asymmetric_focal_loss,
        modified_focal_loss,
        segmentation_focal_loss,
        symmetric_focal_loss,
        asymmetric_unified_focal_loss,
        combo_loss,
        mixed_focal_loss,
        symmetric_unified_focal_loss,
    )
}
