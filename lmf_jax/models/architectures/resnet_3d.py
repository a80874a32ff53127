"""ResNet-18 of volumes, with a 3x3x3 kernel wherever ResNet-18 has a 3x3 one.

Source: R3D of Tran et al., "A closer look at spatiotemporal convolutions for action recognition",
2017, arXiv 1711.11248, as in torchvision's ``r3d_18``: the depth of a volume is the time there. The
first convolution halves height and width, but not the depth, and no pooling follows.
"""

from functools import partial

import flax.linen as nn
from jaxtyping import Array, Float

from lmf_jax.models.classifier import Classifier, make_classifier
from lmf_jax.models.layers import ConvNorm, DistributedModule, rematerialized
from lmf_jax.models.registry import ModelOptions, register_model

VolumeMap = Float[Array, "batch depth height width channels"]
"""Feature maps of a batch, or volumes."""
OutputMap = Float[Array, "batch out_depth out_height out_width features"]
"""Feature maps whose size and channels may differ from those of the input."""


class BasicBlock(DistributedModule):
    """Two 3x3x3 convolutions around a shortcut.

    Attributes:
        width: Number of output channels.
        stride: Step between outputs of the first convolution, along every axis.
    """

    width: int
    stride: int = 1

    @nn.compact
    def __call__(self, inputs: VolumeMap, train: bool) -> OutputMap:
        """Add the output of the convolutions to the shortcut."""
        conv = partial(ConvNorm, self.width, dtype=self.dtype, axis_name=self.axis_name)
        x = nn.relu(conv(3, self.stride, name="conv1")(inputs, train))
        x = conv(3, name="conv2")(x, train)
        if self.stride == 1 and inputs.shape[-1] == self.width:
            return nn.relu(x + inputs)
        return nn.relu(x + conv(1, self.stride, name="downsample")(inputs, train))


class ResNet3D(DistributedModule):
    """The convolutional part of a ResNet of volumes.

    Attributes:
        stage_sizes: Number of blocks in each stage; each stage but the first halves every axis.
        width: Width of the first stage; each further stage has twice the width.
        remat: Whether the blocks are computed again in the backward pass, to save memory.
    """

    stage_sizes: tuple[int, ...] = (2, 2, 2, 2)
    width: int = 64
    remat: bool = False

    @nn.compact
    def __call__(self, volumes: VolumeMap, train: bool) -> OutputMap:
        """Return the last map: with four stages an eighth of the depth, a 16th of each side."""
        conv, block = (
            partial(module, dtype=self.dtype, axis_name=self.axis_name)
            for module in (ConvNorm, rematerialized(BasicBlock, self.remat))
        )
        x = nn.relu(conv(self.width, (3, 7, 7), (1, 2, 2), name="conv1")(volumes, train))
        for stage, size in enumerate(self.stage_sizes):
            for index in range(size):
                stride = 2 if stage > 0 and index == 0 else 1
                name = f"layer{stage + 1}_{index}"
                x = block(self.width * 2**stage, stride, name=name)(x, train)
        return x


@register_model(
    "resnet18_3d",
    task="classification",
    summary="ResNet-18 of volumes",
    source="torchvision's r3d_18",
    spatial_dims=(3,),
)
def resnet18_3d(options: ModelOptions) -> Classifier:
    """Return ResNet-18 of volumes."""
    backbone = ResNet3D(dtype=options.dtype, axis_name=options.axis_name, remat=options.remat)
    return make_classifier(backbone, options, kernel_init=nn.initializers.normal(0.01))
