"""ResNet-50 (He et al., "Deep residual learning for image recognition", 2015, arXiv 1512.03385).

In torchvision's variant, often called v1.5, the 3x3 convolution of a bottleneck has the stride; in
the original, v1, which Keras has, the 1x1 convolution before it. Keras 2.3 changed the epsilon of
the batch norms and the names of the layers, so older and later weights belong to two models.
"""

from functools import partial

import flax.linen as nn
import jax

from lmf_jax.models.classifier import Classifier, make_classifier
from lmf_jax.models.layers import (
    ConvNorm,
    DistributedModule,
    ImageBatch,
    InputMap,
    OutputMap,
    max_pool,
    rematerialized,
)
from lmf_jax.models.registry import (
    KerasWeights,
    ModelOptions,
    TorchvisionWeights,
    register_model,
)


class Bottleneck(DistributedModule):
    """1x1, 3x3 and 1x1 convolutions around a shortcut; the output has ``4 * width`` channels.

    Attributes:
        width: Number of channels of the 3x3 convolution.
        stride: Step between outputs, in pixels.
        stride_first: Whether the first convolution has the stride instead of the 3x3 one.
        epsilon: Added to the variance in the batch norms.
    """

    width: int
    stride: int = 1
    stride_first: bool = False
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, inputs: InputMap, train: bool) -> OutputMap:
        """Add the output of the convolutions to the shortcut."""
        conv = partial(ConvNorm, epsilon=self.epsilon, dtype=self.dtype, axis_name=self.axis_name)
        features = 4 * self.width
        strides = (self.stride, 1) if self.stride_first else (1, self.stride)
        x = nn.relu(conv(self.width, 1, strides[0], name="conv1")(inputs, train))
        x = nn.relu(conv(self.width, 3, strides[1], name="conv2")(x, train))
        x = conv(features, name="conv3")(x, train)
        if self.stride == 1 and inputs.shape[-1] == features:
            return nn.relu(x + inputs)
        return nn.relu(x + conv(features, 1, self.stride, name="downsample")(inputs, train))


class ResNet(DistributedModule):
    """The convolutional part of a ResNet of bottlenecks.

    Attributes:
        stage_sizes: Number of bottlenecks in each stage; each stage but the first halves the map.
        width: Width of the first stage; each further stage has twice the width.
        stride_first: As in :class:`Bottleneck`.
        epsilon: Added to the variance in the batch norms.
        remat: Whether the bottlenecks are computed again in the backward pass, to save memory.
    """

    stage_sizes: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    stride_first: bool = False
    epsilon: float = 1e-5
    remat: bool = False

    @property
    def num_features(self) -> int:
        """Number of channels of the last map."""
        return 4 * self.width * 2 ** (len(self.stage_sizes) - 1)

    @nn.compact
    def __call__(self, images: ImageBatch, train: bool) -> OutputMap:
        """Return the last map, 32 times smaller than the images if there are four stages."""
        conv = partial(ConvNorm, epsilon=self.epsilon, dtype=self.dtype, axis_name=self.axis_name)
        bottleneck = partial(
            rematerialized(Bottleneck, self.remat),
            stride_first=self.stride_first,
            epsilon=self.epsilon,
            dtype=self.dtype,
            axis_name=self.axis_name,
        )
        x = nn.relu(conv(self.width, 7, 2, name="conv1")(images, train))
        x = max_pool(x)
        for stage, size in enumerate(self.stage_sizes):
            for block in range(size):
                stride = 2 if stage > 0 and block == 0 else 1
                name = f"layer{stage + 1}_{block}"
                x = bottleneck(self.width * 2**stage, stride, name=name)(x, train)
        return x


@register_model(
    "resnet50",
    task="classification",
    summary="ResNet-50 v1.5",
    source="torchvision",
    torchvision=TorchvisionWeights(
        "resnet50-11ad3fa6.pth",  # IMAGENET1K_V2
        (
            ("^head$", "fc"),
            ("^backbone/", ""),
            (r"layer(\d)_(\d+)", r"layer\1/\2"),
            ("downsample/conv", "downsample/0"),
            ("downsample/norm", "downsample/1"),
            (r"conv(\d)/conv", r"conv\1"),
            (r"conv(\d)/norm", r"bn\1"),
        ),
    ),
)
def resnet50(options: ModelOptions) -> Classifier:
    """Return ResNet-50 v1.5."""
    return _classifier(options, stride_first=False, epsilon=1e-5)


@register_model(
    "resnet50_v1",
    task="classification",
    summary="ResNet-50 v1",
    source="Keras",
    normalization="caffe",
    keras=KerasWeights(
        "Keras' first ResNet-50",
        "conv1",
        (
            ("^head$", "fc1000"),
            ("^backbone/", ""),
            ("^conv1/conv$", "conv1"),
            ("^conv1/norm$", "bn_conv1"),
            *((f"^layer{n}_", f"{n + 1}_") for n in range(1, 5)),
            *((rf"^(\d)_{n}/", rf"\1{letter}_") for n, letter in enumerate("abcdef")),
            ("_downsample/", "_branch1/"),
            *((f"_conv{n}/", f"_branch2{letter}/") for n, letter in enumerate("abc", start=1)),
            (r"^(\d.*)/conv$", r"res\1"),
            (r"^(\d.*)/norm$", r"bn\1"),
        ),
    ),
)
def resnet50_v1(options: ModelOptions) -> Classifier:
    """Return ResNet-50 v1 with the constants of Keras until 2.2."""
    return _classifier(options, stride_first=True, epsilon=1e-3)


@register_model(
    "resnet50_keras",
    task="classification",
    summary="ResNet-50 v1 since Keras 2.3",
    source="Keras",
    normalization="caffe",
    keras=KerasWeights(
        "ResNet-50 since Keras 2.3",
        "conv1_conv",
        (
            ("^head$", "predictions"),
            ("^backbone/", ""),
            ("^conv1/", "conv1_"),
            *((f"^layer{n}_", f"conv{n + 1}_block") for n in range(1, 5)),
            *((f"_block{n}/", f"_block{n + 1}_") for n in range(6)),
            ("_downsample/", "_0_"),
            (r"_conv(\d)/", r"_\1_"),
            ("_norm$", "_bn"),
        ),
    ),
)
def resnet50_keras(options: ModelOptions) -> Classifier:
    """Return ResNet-50 v1 with the constants of Keras since 2.3."""
    return _classifier(options, stride_first=True, epsilon=1.001e-5)


def _classifier(options: ModelOptions, *, stride_first: bool, epsilon: float) -> Classifier:
    backbone = ResNet(
        stride_first=stride_first,
        epsilon=epsilon,
        dtype=options.dtype,
        axis_name=options.axis_name,
        remat=options.remat,
    )
    limit = backbone.num_features**-0.5
    return make_classifier(
        backbone,
        options,
        kernel_init=nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),  # within +-limit
        bias_init=partial(jax.random.uniform, minval=-limit, maxval=limit),
    )
