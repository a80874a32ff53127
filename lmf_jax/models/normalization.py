"""Normalization of images and volumes: the range, order and statistics that a model expects."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any, Literal, get_args

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped, UInt8

from lmf_jax.models.layers import parameter_dtype

ChannelOrder = Literal["rgb", "bgr"]


@dataclass(frozen=True)
class Normalization:
    """The normalization ``(x - mean) / std`` of RGB or gray images in [0, 255].

    Attributes:
        mean: Mean of each channel, in [0, 255], in the model's channel order.
        std: Standard deviation of each channel, in the model's channel order.
        channel_order: The channel order of the model.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    channel_order: ChannelOrder = "rgb"

    def __post_init__(self) -> None:
        """Raise if images cannot be normalized by these numbers."""
        whole = len(self.mean) == len(self.std) in (1, 3) and min(self.std) > 0
        if not whole or self.channel_order not in get_args(ChannelOrder):
            raise ValueError(
                f"Cannot normalize by {self}; expected three means, three positive standard "
                "deviations, or one of each, and the order rgb or bgr."
            )

    def for_channels(self, channels: int) -> "Normalization":
        """Return the normalization of images with these channels.

        Gray images get the mean of the means and of the standard deviations: with the kernels of
        :func:`lmf_jax.models.gray_weights.sum_over_rgb`, the first convolution then gives nearly
        what it gives for three equal channels, and exactly that with equal means and deviations.

        Args:
            channels: 3, or 1 for gray images.
        """
        if channels == len(self.mean):
            return self
        mean, std = (sum(values) / len(values) for values in (self.mean, self.std))
        return Normalization((mean,), (std,))


NORMALIZATIONS: dict[str, Normalization] = {
    # 255 times (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225)
    "imagenet": Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "unit": Normalization((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "inception": Normalization((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "caffe": Normalization((103.939, 116.779, 123.68), (1.0, 1.0, 1.0), "bgr"),
}
"""By name: that of torchvision's models; the ranges [0, 1] and [-1, 1], the latter that of timm's
EfficientNetV2-S; and that of Keras' ResNet-50."""


@dataclass(frozen=True)
class IntensityStatistics:
    """Statistics of the intensities of a modality, which is clipped and then standardized.

    Attributes:
        low: Lower end of the range.
        high: Upper end of the range.
        mean: Mean, which becomes 0.
        std: Standard deviation, which becomes 1.
    """

    low: float
    high: float
    mean: float
    std: float

    def __post_init__(self) -> None:
        """Raise if volumes cannot be normalized by these numbers."""
        values = (self.low, self.high, self.mean, self.std)
        if not all(map(math.isfinite, values)) or self.low > self.high or self.std <= 0:
            raise ValueError(
                f"Cannot normalize by {self}; expected finite numbers with low <= high and a "
                "positive standard deviation."
            )


@dataclass(frozen=True)
class VolumeNormalization:
    """The normalization ``(clip(x, low, high) - mean) / std`` of each modality of a volume.

    Attributes:
        modalities: Statistics of each modality; None for one that comes normalized.
    """

    modalities: tuple[IntensityStatistics | None, ...]

    @classmethod
    def of(
        cls, modalities: Sequence[Mapping[str, float] | None] | None
    ) -> "VolumeNormalization | None":
        """Return the normalization by recorded statistics, or None if all modalities lack them.

        Args:
            modalities: For each modality, the attributes of :class:`IntensityStatistics` or None.
        """
        if modalities is None:
            return None
        return cls(tuple(None if v is None else IntensityStatistics(**v) for v in modalities))


AnyNormalization = Normalization | VolumeNormalization
"""Normalization of images, or of volumes."""


def record_normalization(normalization: AnyNormalization | None) -> dict[str, Any] | None:
    """Return a normalization as it is recorded in a checkpoint."""
    return None if normalization is None else asdict(normalization)


def recorded_normalization(record: Mapping[str, Any] | None) -> AnyNormalization | None:
    """Return the normalization of a record, see :func:`record_normalization`."""
    if record is None:
        return None
    if "modalities" in record:
        return VolumeNormalization.of(record["modalities"])
    return Normalization(tuple(record["mean"]), tuple(record["std"]), record["channel_order"])


def normalize_volumes(
    volumes: Float[Array, "*batch modalities"], normalization: VolumeNormalization, dtype: DTypeLike
) -> Float[Array, "*batch modalities"]:
    """Normalize volumes for a model.

    Args:
        volumes: Intensities, ``[..., M]``.
        normalization: The statistics of each modality.
        dtype: Dtype of the result; the computation is in at least float32.
    """
    wide = parameter_dtype(dtype)
    shape = (1,) * (volumes.ndim - 1) + (-1,)
    neutral = (-math.inf, math.inf, 0.0, 1.0)
    rows = [neutral if s is None else astuple(s) for s in normalization.modalities]
    low, high, mean, std = (jnp.asarray(c, wide).reshape(shape) for c in zip(*rows, strict=True))
    return ((jnp.clip(volumes.astype(wide), low, high) - mean) / std).astype(dtype)


def normalize_images(
    images: UInt8[Array, "*batch channels"], normalization: Normalization, dtype: DTypeLike
) -> Float[Array, "*batch channels"]:
    """Normalize images for a model.

    Args:
        images: RGB or gray in [0, 255], ``[..., channels]``, as the normalization.
        normalization: The normalization that the model expects.
        dtype: Dtype of the result; the computation is in at least float32.
    """
    wide = parameter_dtype(dtype)
    shape = (1,) * (images.ndim - 1) + (len(normalization.mean),)
    mean = jnp.asarray(normalization.mean, wide).reshape(shape)
    std = jnp.asarray(normalization.std, wide).reshape(shape)
    ordered = images[..., ::-1] if normalization.channel_order == "bgr" else images
    return ((ordered.astype(wide) - mean) / std).astype(dtype)


def model_inputs(
    images: Shaped[Array, "*batch channels"],
    normalization: AnyNormalization | None,
    dtype: DTypeLike,
) -> Float[Array, "*batch channels"]:
    """Normalize images for a model, unless they are normalized already.

    Args:
        images: RGB in [0, 255]; or volumes, floats with any number of modalities.
        normalization: The normalization that the model expects; None for normalized volumes.
        dtype: Dtype of the result.
    """
    if normalization is None:
        return images.astype(dtype)
    if isinstance(normalization, VolumeNormalization):
        return normalize_volumes(images, normalization, dtype)
    return normalize_images(images, normalization, dtype)
