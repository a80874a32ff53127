"""EfficientNetV2-S (Tan and Le, "EfficientNetV2", 2021, arXiv 2104.00298).

torchvision's variant pads all maps equally on both sides. The original, which timm has under a name
with ``tf_``, pads as TensorFlow's SAME, so the same weights give other outputs.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from lmf_jax.models.classifier import Classifier, make_classifier
from lmf_jax.models.layers import (
    Conv,
    ConvNorm,
    DistributedModule,
    Dropout,
    ImageBatch,
    InputMap,
    OutputMap,
    rematerialized,
)
from lmf_jax.models.registry import ModelOptions, TorchvisionWeights, register_model

EPSILON = 1e-3
"""Epsilon of every batch norm, which torchvision changes for this family alone."""


class Stage(NamedTuple):
    """A row of Table 4 of the paper: blocks of one kind and width.

    Attributes:
        fused: Whether one 3x3 convolution takes the place of the expansion and the depthwise
            convolution (Fused-MBConv), without squeeze and excitation.
        expansion: How many times more channels the block has inside.
        stride: Step of the stage's first block, in pixels.
        features: Number of output channels.
        size: Number of blocks.
    """

    fused: bool
    expansion: int
    stride: int
    features: int
    size: int


STAGES_S = (
    Stage(fused=True, expansion=1, stride=1, features=24, size=2),
    Stage(fused=True, expansion=4, stride=2, features=48, size=4),
    Stage(fused=True, expansion=4, stride=2, features=64, size=4),
    Stage(fused=False, expansion=4, stride=2, features=128, size=6),
    Stage(fused=False, expansion=6, stride=1, features=160, size=9),
    Stage(fused=False, expansion=6, stride=2, features=256, size=15),
)
"""The stages of EfficientNetV2-S."""


class SqueezeExcitation(nn.Module):
    """Scaling of each channel by a gate in (0, 1), computed from the means of all channels.

    Attributes:
        squeezed_features: Number of channels between the two layers of the gate.
        dtype: Dtype of the computation.

    Source: Hu et al., "Squeeze-and-excitation networks", 2017, arXiv 1709.01507.
    """

    squeezed_features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        """Compute the gates and apply them."""
        conv = partial(Conv, use_bias=True, dtype=self.dtype)
        x = inputs.mean((1, 2), keepdims=True)
        x = nn.silu(conv(self.squeezed_features, name="fc1")(x))
        x = conv(inputs.shape[-1], name="fc2")(x)
        return nn.sigmoid(x) * inputs


class Block(DistributedModule):
    """An inverted bottleneck, added to its inputs where it keeps their shape.

    Attributes:
        stage: The row of the table that the block belongs to.
        stride: Step of the block, in pixels.
        drop_rate: Probability that an example skips the block in training (stochastic depth).
        same_padding: Whether maps are padded as by TensorFlow's SAME.
    """

    stage: Stage
    stride: int = 1
    drop_rate: float = 0.0
    same_padding: bool = False

    @nn.compact
    def __call__(self, inputs: InputMap, train: bool) -> OutputMap:
        """Apply the convolutions, and add their inputs if the shape is the same."""
        x = self.fused(inputs, train) if self.stage.fused else self.separable(inputs, train)
        if self.stride > 1 or x.shape != inputs.shape:
            return x
        skip = Dropout(self.drop_rate, whole_examples=True, axis_name=self.axis_name)
        return inputs + skip(x, train)

    def fused(self, inputs: Array, train: bool) -> Array:
        """Apply a 3x3 convolution to the expanded channels and a projection, if there are any."""
        conv, features = self.conv(), self.stage.features
        if self.stage.expansion == 1:
            return nn.silu(conv(features, 3, self.stride, name="expand")(inputs, train))
        expanded = inputs.shape[-1] * self.stage.expansion
        x = nn.silu(conv(expanded, 3, self.stride, name="expand")(inputs, train))
        return conv(features, name="project")(x, train)

    def separable(self, inputs: Array, train: bool) -> Array:
        """Apply expansion, 3x3 depthwise convolution, squeeze and excitation, and projection."""
        conv, channels = self.conv(), inputs.shape[-1]
        expanded = channels * self.stage.expansion
        x = nn.silu(conv(expanded, name="expand")(inputs, train))
        x = conv(expanded, 3, self.stride, depthwise=True, name="depthwise")(x, train)
        x = SqueezeExcitation(channels // 4, self.dtype, name="gate")(nn.silu(x))
        return conv(self.stage.features, name="project")(x, train)

    def conv(self) -> Callable[..., ConvNorm]:
        """Return the class of convolutions with the block's batch norm and dtype."""
        return _conv_norm(self)


class EfficientNetV2(DistributedModule):
    """The convolutional part of an EfficientNetV2.

    Attributes:
        stages: The rows of the table between the first and the last convolution.
        width: Number of channels of the first convolution.
        num_features: Number of channels of the last convolution.
        drop_rate: Stochastic depth. The probability that an example skips a block grows linearly
            from 0 in the first block; it would reach ``drop_rate`` one block after the last.
        same_padding: Whether maps are padded as by TensorFlow's SAME.
        remat: Whether the blocks are computed again in the backward pass, to save memory.
    """

    stages: tuple[Stage, ...] = STAGES_S
    width: int = 24
    num_features: int = 1280
    drop_rate: float = 0.2
    same_padding: bool = False
    remat: bool = False

    @nn.compact
    def __call__(self, images: ImageBatch, train: bool) -> OutputMap:
        """Return the last map, 32 times smaller than the images."""
        conv = _conv_norm(self)
        block_class = rematerialized(Block, self.remat)
        block = partial(
            block_class,
            same_padding=self.same_padding,
            dtype=self.dtype,
            axis_name=self.axis_name,
        )
        x = nn.silu(conv(self.width, 3, 2, name="first")(images, train))
        blocks = [(s, b) for s, stage in enumerate(self.stages) for b in range(stage.size)]
        for depth, (s, b) in enumerate(blocks):
            stage = self.stages[s]
            stride = stage.stride if b == 0 else 1
            drop_rate = self.drop_rate * depth / len(blocks)
            x = block(stage, stride, drop_rate, name=f"stage{s + 1}_{b}")(x, train)
        return nn.silu(conv(self.num_features, name="last")(x, train))


def _conv_norm(module: Block | EfficientNetV2) -> Callable[..., ConvNorm]:
    """Return the class of convolutions with the module's padding and dtype."""
    return partial(
        ConvNorm,
        same_padding=module.same_padding,
        epsilon=EPSILON,
        dtype=module.dtype,
        axis_name=module.axis_name,
    )


@register_model(
    "efficientnet_v2_s",
    task="classification",
    summary="EfficientNetV2-S",
    source="torchvision",
    torchvision=TorchvisionWeights(
        "efficientnet_v2_s-dd5fe13b.pth",  # IMAGENET1K_V1
        (
            ("^head$", "classifier/1"),
            ("^backbone/", "features/"),
            ("first/", "0/"),
            ("last/", "7/"),
            (r"stage([1-3]_\d+)/project", r"stage\1/1"),
            (r"stage([4-6]_\d+)/project", r"stage\1/3"),
            ("depthwise/", "1/"),
            ("gate/", "2/"),
            ("expand/", "0/"),
            (r"stage(\d)_(\d+)", r"\1/\2/block"),
            ("conv$", "0"),
            ("norm$", "1"),
        ),
    ),
)
def efficientnet_v2_s(options: ModelOptions) -> Classifier:
    """Return EfficientNetV2-S."""
    return _classifier(options, same_padding=False)


@register_model(
    "tf_efficientnetv2_s",
    task="classification",
    summary="EfficientNetV2-S with TensorFlow's padding",
    source="timm",
    normalization="inception",
    timm=(
        ("^head$", "classifier"),
        ("^backbone/", ""),
        ("first/conv", "conv_stem"),
        ("last/conv", "conv_head"),
        ("(first|expand)/norm", "bn1"),
        ("(last|depthwise)/norm", "bn2"),
        (r"stage([23]_\d+)/project/norm", r"stage\1/bn2"),
        ("project/norm", "bn3"),
        (r"stage1_(\d+)/expand/conv", r"stage1_\1/conv"),
        (r"stage([23]_\d+)/expand/conv", r"stage\1/conv_exp"),
        ("expand/conv", "conv_pw"),
        ("depthwise/conv", "conv_dw"),
        ("project/conv", "conv_pwl"),
        ("gate/fc1", "se/conv_reduce"),
        ("gate/fc2", "se/conv_expand"),
        *((f"stage{n + 1}_", f"blocks/{n}/") for n in range(len(STAGES_S))),
    ),
)
def tf_efficientnetv2_s(options: ModelOptions) -> Classifier:
    """Return EfficientNetV2-S with TensorFlow's padding."""
    return _classifier(options, same_padding=True)


def _classifier(options: ModelOptions, *, same_padding: bool) -> Classifier:
    return make_classifier(
        EfficientNetV2(
            same_padding=same_padding,
            dtype=options.dtype,
            axis_name=options.axis_name,
            remat=options.remat,
        ),
        options,
        kernel_init=nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform"),
        dropout_rate=0.2,
    )
