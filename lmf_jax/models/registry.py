"""Models by name."""

from collections.abc import Callable
from typing import Literal, overload

import jax.numpy as jnp
from jax.typing import DTypeLike

from lmf_jax.models.classifier import Classifier, HeadName
from lmf_jax.models.densenet import densenet121
from lmf_jax.models.efficientnet_v2 import efficientnet_v2_s
from lmf_jax.models.resnet import resnet50, resnet50_v1
from lmf_jax.models.unet import SpatialDims, UNet

CLASSIFIERS: dict[str, Callable[..., Classifier]] = {
    "resnet50": resnet50,
    "resnet50_v1": resnet50_v1,
    "densenet121": densenet121,
    "efficientnet_v2_s": efficientnet_v2_s,
}


@overload
def create_model(
    name: Literal["resnet50", "resnet50_v1", "densenet121", "efficientnet_v2_s"],
    *,
    num_classes: int,
    dtype: DTypeLike = ...,
    axis_name: str | None = ...,
    head: HeadName = ...,
    remat: bool = ...,
    freeze_backbone: bool = ...,
    spatial_dims: SpatialDims = ...,
) -> Classifier: ...


@overload
def create_model(
    name: Literal["unet"],
    *,
    num_classes: int,
    dtype: DTypeLike = ...,
    axis_name: str | None = ...,
    head: HeadName = ...,
    remat: bool = ...,
    freeze_backbone: bool = ...,
    spatial_dims: SpatialDims = ...,
) -> UNet: ...


@overload
def create_model(
    name: str,
    *,
    num_classes: int,
    dtype: DTypeLike = ...,
    axis_name: str | None = ...,
    head: HeadName = ...,
    remat: bool = ...,
    freeze_backbone: bool = ...,
    spatial_dims: SpatialDims = ...,
) -> Classifier | UNet: ...


def create_model(
    name: str,
    *,
    num_classes: int,
    dtype: DTypeLike = jnp.float32,
    axis_name: str | None = None,
    head: HeadName = "linear",
    remat: bool = False,
    freeze_backbone: bool = False,
    spatial_dims: SpatialDims = 2,
) -> Classifier | UNet:
    """Makes an image classifier or a U-Net.

    A classifier has torchvision's architecture, constants and initialisers.
    `model.init(key, images)` gives the variables `{"params", "batch_stats"}`;
    `model.apply(variables, images)` the logits in evaluation, and
    `model.apply(variables, images, train=True, mutable=["batch_stats"], rngs={"dropout": key})` the
    logits in training and the new batch statistics. Images are float `[batch, height, width, 3]`,
    already normalised; logits are `[batch, num_classes]`.

    The U-Net has the variables `{"params"}` alone, takes `[batch, *space, channels]` with any
    number of channels and gives `[batch, *space, num_classes]`, in training and in evaluation.

    Args:
        name: "resnet50", "densenet121" or "efficientnet_v2_s"; "resnet50_v1", with Keras'
            architecture and constants; or "unet", see :class:`lmf_jax.models.unet.UNet`.
        num_classes: number of classes.
        dtype: dtype of the computation. Parameters, statistics and logits stay float32 at
            `jnp.bfloat16`, and are float64 at `jnp.float64`.
        axis_name: name of the `jax.pmap` axis over whose devices each batch is spread: batch
            statistics and random draws are then those of the whole batch. None: no such axis. The
            U-Net needs neither, and nothing of it crosses devices.
        head: "linear", or "cosine" for cosines in [-1, 1] between features and class directions;
            the U-Net has the linear one.
        remat: whether blocks are computed again in the backward pass: less memory, more time, the
            same variables.
        freeze_backbone: whether a classifier's backbone is a fixed function in training too: it
            normalises by its running statistics, keeps them, and passes no gradient.
        spatial_dims: of the U-Net, 2 for images or 3 for volumes; classifiers take images.

    Raises:
        ValueError: if there is no model or no head of that name, or the model has no such variant.
    """
    if name == "unet":
        if head != "linear" or freeze_backbone:
            raise ValueError(
                f"Cannot make a unet with head={head!r} and freeze_backbone={freeze_backbone}; "
                "it has the linear head, and no backbone to freeze."
            )
        return UNet(num_classes, spatial_dims, dtype=dtype, remat=remat)
    if name not in CLASSIFIERS:
        raise ValueError(
            f"Unknown model {name!r}; expected one of {', '.join((*CLASSIFIERS, 'unet'))}."
        )
    if spatial_dims != 2:
        raise ValueError(
            f"{name} classifies images and takes no spatial_dims={spatial_dims}; unet does."
        )
    make_classifier = CLASSIFIERS[name]
    model = make_classifier(
        num_classes=num_classes, dtype=dtype, axis_name=axis_name, head=head, remat=remat
    )
    return model.clone(freeze_backbone=freeze_backbone)
