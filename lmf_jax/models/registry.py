"""Models by name."""

from collections.abc import Callable

import jax.numpy as jnp
from jax.typing import DTypeLike

from lmf_jax.models.classifier import Classifier, HeadName
from lmf_jax.models.densenet import densenet121
from lmf_jax.models.efficientnet_v2 import efficientnet_v2_s
from lmf_jax.models.resnet import resnet50, resnet50_v1

MODELS: dict[str, Callable[..., Classifier]] = {
    "resnet50": resnet50,
    "resnet50_v1": resnet50_v1,
    "densenet121": densenet121,
    "efficientnet_v2_s": efficientnet_v2_s,
}


def create_model(
    name: str,
    *,
    num_classes: int,
    dtype: DTypeLike = jnp.float32,
    axis_name: str | None = None,
    head: HeadName = "linear",
    remat: bool = False,
    freeze_backbone: bool = False,
) -> Classifier:
    """Makes an image classifier, with torchvision's architecture, constants and initialisers.

    `model.init(key, images)` gives the variables `{"params", "batch_stats"}`;
    `model.apply(variables, images)` the logits in evaluation, and
    `model.apply(variables, images, train=True, mutable=["batch_stats"], rngs={"dropout": key})` the
    logits in training and the new batch statistics. Images are float `[batch, height, width, 3]`,
    already normalised; logits are `[batch, num_classes]`.

    Args:
        name: "resnet50", "densenet121" or "efficientnet_v2_s"; or "resnet50_v1", with Keras'
            architecture and constants.
        num_classes: number of classes.
        dtype: dtype of the computation. Parameters, batch statistics and logits stay float32 at
            `jnp.bfloat16`, and are float64 at `jnp.float64`.
        axis_name: name of the `jax.pmap` axis over whose devices each batch is spread: batch
            statistics and random draws are then those of the whole batch. None: no such axis.
        head: "linear", or "cosine" for cosines in [-1, 1] between features and class directions.
        remat: whether blocks are computed again in the backward pass: less memory, more time, the
            same variables.
        freeze_backbone: whether the backbone is a fixed function in training too: it normalises by
            its running statistics, keeps them, and passes no gradient.

    Raises:
        ValueError: if there is no model or no head of that name.
    """
    if name not in MODELS:
        raise ValueError(f"Unknown model {name!r}; expected one of {', '.join(MODELS)}.")
    make_model = MODELS[name]
    model = make_model(
        num_classes=num_classes, dtype=dtype, axis_name=axis_name, head=head, remat=remat
    )
    return model.clone(freeze_backbone=freeze_backbone)
