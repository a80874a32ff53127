"""Normalization of images: the range, channel order and statistics that a model expects."""

from dataclasses import dataclass
from typing import Literal, get_args

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped, UInt8

from lmf_jax.models.layers import parameter_dtype

ChannelOrder = Literal["rgb", "bgr"]


@dataclass(frozen=True)
class Normalization:
    """The normalization ``(x - mean) / std`` of RGB images in [0, 255].

    Attributes:
        mean: Mean of each channel, in [0, 255], in the model's channel order.
        std: Standard deviation of each channel, in the model's channel order.
        channel_order: The channel order of the model.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: ChannelOrder = "rgb"

    def __post_init__(self) -> None:
        """Raise if images cannot be normalized by these numbers."""
        whole = len(self.mean) == 3 and len(self.std) == 3 and min(self.std) > 0
        if not whole or self.channel_order not in get_args(ChannelOrder):
            raise ValueError(
                f"Cannot normalize by {self}; expected three means, three positive standard "
                "deviations and the order rgb or bgr."
            )


NORMALIZATIONS: dict[str, Normalization] = {
    # 255 times (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225)
    "imagenet": Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "unit": Normalization((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "inception": Normalization((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "caffe": Normalization((103.939, 116.779, 123.68), (1.0, 1.0, 1.0), "bgr"),
}
"""By name: that of torchvision's models; the ranges [0, 1] and [-1, 1], the latter that of timm's
EfficientNetV2-S; and that of Keras' ResNet-50."""


def normalize_images(
    images: UInt8[Array, "*batch 3"], normalization: Normalization, dtype: DTypeLike
) -> Float[Array, "*batch 3"]:
    """Normalize images for a model.

    Args:
        images: RGB in [0, 255], ``[..., 3]``.
        normalization: The normalization that the model expects.
        dtype: Dtype of the result; the computation is in at least float32.
    """
    wide = parameter_dtype(dtype)
    shape = (1,) * (images.ndim - 1) + (3,)
    mean = jnp.asarray(normalization.mean, wide).reshape(shape)
    std = jnp.asarray(normalization.std, wide).reshape(shape)
    ordered = images[..., ::-1] if normalization.channel_order == "bgr" else images
    return ((ordered.astype(wide) - mean) / std).astype(dtype)


def model_inputs(
    images: Shaped[Array, "*batch channels"], normalization: Normalization | None, dtype: DTypeLike
) -> Float[Array, "*batch channels"]:
    """Normalize images for a model, unless they are normalized already.

    Args:
        images: RGB in [0, 255]; or normalized floats with any number of channels.
        normalization: The normalization that the model expects; None for normalized images.
        dtype: Dtype of the result.
    """
    if normalization is None:
        return images.astype(dtype)
    return normalize_images(images, normalization, dtype)
