"""DenseNet-121 (Huang et al., "Densely connected convolutional networks", 2016, arXiv 1608.06993).

The variant of torchvision: bottlenecks, and a batch norm and ReLU after the last dense block.
"""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lmf_jax.models.classifier import Classifier, make_classifier
from lmf_jax.models.layers import (
    BatchNorm,
    Conv,
    DistributedModule,
    ImageBatch,
    OutputMap,
    average_pool,
    max_pool,
    rematerialized,
)
from lmf_jax.models.registry import ModelOptions, TorchvisionWeights, register_model

_KERNEL_INIT = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class NormConv(DistributedModule):
    """Batch norm, ReLU and a convolution without bias.

    Attributes:
        features: Number of output channels.
        kernel_size: Rows and columns of the kernel, in pixels.
    """

    features: int
    kernel_size: int = 1

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "batch height width channels"], train: bool
    ) -> Float[Array, "batch height width features"]:
        """Normalize, apply ReLU and convolve."""
        norm = BatchNorm(dtype=self.dtype, axis_name=self.axis_name, name="norm")
        conv = Conv(
            self.features,
            self.kernel_size,
            kernel_init=_KERNEL_INIT,
            dtype=self.dtype,
            name="conv",
        )
        return conv(nn.relu(norm(inputs, train)))


class DenseLayer(DistributedModule):
    """A bottleneck of ``4 * growth_rate`` channels that sees all maps of its block.

    Attributes:
        growth_rate: Number of channels that the layer adds.
    """

    growth_rate: int

    @nn.compact
    def __call__(
        self, maps: Sequence[Float[Array, "batch height width _"]], train: bool
    ) -> Float[Array, "batch height width growth_rate"]:
        """Return the new channels."""
        norm_conv = partial(NormConv, dtype=self.dtype, axis_name=self.axis_name)
        x = norm_conv(4 * self.growth_rate, name="conv1")(concatenate(maps), train)
        return norm_conv(self.growth_rate, 3, name="conv2")(x, train)


def concatenate(maps: Sequence[Float[Array, "batch height width _"]]) -> Array:
    """Concatenate the channels of the maps."""
    return jax.lax.platform_dependent(*maps, cpu=_concatenate_once, default=_concatenate)


def _concatenate(*maps: Array) -> Array:
    return jnp.concatenate(maps, axis=-1)


def _concatenate_once(*maps: Array) -> Array:
    # On a CPU, XLA would compute the concatenation and its gradient again for every map.
    return jax.lax.optimization_barrier(_concatenate(*maps))


class DenseNet(DistributedModule):
    """The convolutional part of a DenseNet with bottlenecks and halving transitions.

    Attributes:
        block_sizes: Number of layers in each dense block; a transition between two blocks halves
            the map and the number of channels.
        growth_rate: Number of channels that each layer adds.
        width: Number of channels before the first block.
        remat: Whether the dense layers are computed again in the backward pass, to save memory.
    """

    block_sizes: tuple[int, ...] = (6, 12, 24, 16)
    growth_rate: int = 32
    width: int = 64
    remat: bool = False

    @nn.compact
    def __call__(self, images: ImageBatch, train: bool) -> OutputMap:
        """Return the last map, 32 times smaller than the images if there are four blocks."""
        norm = partial(BatchNorm, dtype=self.dtype, axis_name=self.axis_name)
        norm_conv = partial(NormConv, dtype=self.dtype, axis_name=self.axis_name)
        layer_class = rematerialized(DenseLayer, self.remat)
        dense_layer = partial(
            layer_class, self.growth_rate, dtype=self.dtype, axis_name=self.axis_name
        )
        x = Conv(self.width, 7, 2, kernel_init=_KERNEL_INIT, dtype=self.dtype, name="conv0")(images)
        x = max_pool(nn.relu(norm(name="norm0")(x, train)))
        for block, size in enumerate(self.block_sizes, start=1):
            maps = [x]
            for layer in range(1, size + 1):
                maps.append(dense_layer(name=f"denseblock{block}_{layer}")(maps, train))
            x = concatenate(maps)
            if block < len(self.block_sizes):
                x = norm_conv(x.shape[-1] // 2, name=f"transition{block}")(x, train)
                x = average_pool(x)
        return nn.relu(norm(name="norm5")(x, train))


@register_model(
    "densenet121",
    task="classification",
    summary="DenseNet-121",
    source="torchvision",
    torchvision=TorchvisionWeights(
        "densenet121-a639ec97.pth",  # IMAGENET1K_V1
        (
            ("^head$", "classifier"),
            ("^backbone/", "features/"),
            (r"denseblock(\d)_(\d+)", r"denseblock\1/denselayer\2"),
            (r"conv(\d)/(conv|norm)", r"\2\1"),
        ),
    ),
)
def densenet121(options: ModelOptions) -> Classifier:
    """Return DenseNet-121."""
    return make_classifier(
        DenseNet(dtype=options.dtype, axis_name=options.axis_name, remat=options.remat),
        options,
        kernel_init=nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
    )
