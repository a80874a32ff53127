"""How images enter a model: the range, order and statistics that its weights were trained with."""

from dataclasses import dataclass
from typing import Literal, get_args

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped, UInt8

from lmf_jax.models.layers import parameter_dtype

ChannelOrder = Literal["rgb", "bgr"]


@dataclass(frozen=True)
class Normalisation:
    """What is done to RGB images in 0 to 255 before a model sees them, `(x - mean) / std`.

    Attributes:
        mean: what is subtracted from each channel, in 0 to 255, in the order of the model.
        std: what each channel is divided by.
        channel_order: the order in which the model takes the channels.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: ChannelOrder = "rgb"

    def __post_init__(self) -> None:
        """Refuse what no image can be normalised by."""
        whole = len(self.mean) == 3 and len(self.std) == 3 and min(self.std) > 0
        if not whole or self.channel_order not in get_args(ChannelOrder):
            raise ValueError(
                f"Cannot normalise by {self}; expected three means, three positive standard "
                "deviations and the order rgb or bgr."
            )


NORMALISATIONS: dict[str, Normalisation] = {
    # 255 times (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225)
    "imagenet": Normalisation((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "unit": Normalisation((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "caffe": Normalisation((103.939, 116.779, 123.68), (1.0, 1.0, 1.0), "bgr"),
}
"""By name: what torchvision's models take, the range [0, 1], and what Keras' first ResNet takes."""


def normalise_images(
    images: UInt8[Array, "*batch 3"], normalisation: Normalisation, dtype: DTypeLike
) -> Float[Array, "*batch 3"]:
    """Images as a model takes them.

    Args:
        images: RGB in 0 to 255, `[..., 3]`.
        normalisation: what the model's weights were trained with.
        dtype: dtype of the result; computed in at least float32.
    """
    wide = parameter_dtype(dtype)
    shape = (1,) * (images.ndim - 1) + (3,)
    mean = jnp.asarray(normalisation.mean, wide).reshape(shape)
    std = jnp.asarray(normalisation.std, wide).reshape(shape)
    ordered = images[..., ::-1] if normalisation.channel_order == "bgr" else images
    return ((ordered.astype(wide) - mean) / std).astype(dtype)


def model_inputs(
    images: Shaped[Array, "*batch channels"], normalisation: Normalisation | None, dtype: DTypeLike
) -> Float[Array, "*batch channels"]:
    """Images as a model takes them, normalised here or before.

    Args:
        images: RGB in 0 to 255; or float, of any channels, where they come normalised.
        normalisation: what the model's weights were trained with; None if they come normalised.
        dtype: dtype of the result.
    """
    if normalisation is None:
        return images.astype(dtype)
    return normalise_images(images, normalisation, dtype)
