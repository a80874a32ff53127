"""U-Net (Ronneberger et al., 2015, arXiv 1505.04597), in two dimensions and in three.

Three dimensions: Cicek et al., "3D U-Net", 2016, arXiv 1606.06650. As in Isensee et al., "nnU-Net",
2018, arXiv 1809.10486, padding keeps the size of the maps and the norm is over each instance.
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from lmf_jax.models.convolution import convolve
from lmf_jax.models.layers import Conv, InstanceNorm, halving_max_pool, parameter_dtype
from lmf_jax.models.registry import ModelOptions, SpatialDims, register_model

_KERNEL_INIT = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class ConvBlock(nn.Module):
    """Two blocks of a 3x3(x3) convolution without bias, instance norm and ReLU.

    Attributes:
        features: Number of output channels.
        dtype: Dtype of the computation.
    """

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, maps: Float[Array, "batch *space channels"]
    ) -> Float[Array, "batch *space features"]:
        """Return maps of the same size."""
        conv = partial(Conv, self.features, 3, kernel_init=_KERNEL_INIT, dtype=self.dtype)
        for layer in (1, 2):
            maps = conv(name=f"conv{layer}")(maps)
            maps = nn.relu(InstanceNorm(dtype=self.dtype, name=f"norm{layer}")(maps))
        return maps


class UpConv(nn.Module):
    """Transposed convolution with kernel size and stride 2, which doubles the size of the maps.

    Its windows do not overlap, so it is one matrix product and a reshape.

    Attributes:
        features: Number of output channels.
        dtype: Dtype of the computation.
    """

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, maps: Float[Array, "batch *space channels"]
    ) -> Float[Array, "batch *double_space features"]:
        """Expand each pixel to a square or cube of side 2, and add the bias."""
        batch, *space, channels = maps.shape
        dims = len(space)
        shape = (*(2,) * dims, channels, self.features)
        # The fan-in of an output is one pixel with all its channels.
        init = nn.initializers.variance_scaling(
            1.0, "fan_in", "normal", batch_axis=tuple(range(dims))
        )
        kernel = self.param("kernel", init, shape, parameter_dtype(self.dtype))
        bias = self.param("bias", nn.initializers.zeros, (self.features,), kernel.dtype)
        columns = jnp.moveaxis(kernel.astype(self.dtype), -2, 0).reshape(channels, -1)
        pixels = maps.astype(self.dtype).reshape(batch, -1, 1, channels)
        products = convolve(pixels, columns[None, None])  # has the fast gradients on a CPU
        products = products.reshape(batch, *space, *(2,) * dims, self.features)
        pairs = (axis for side in range(1, dims + 1) for axis in (side, side + dims))
        outputs = products.transpose(0, *pairs, 2 * dims + 1)
        outputs = outputs.reshape(batch, *(2 * side for side in space), self.features)
        return outputs + bias.astype(self.dtype).reshape(*(1,) * (dims + 1), -1)


class UNet(nn.Module):
    """A U-Net, with logits for every pixel of an image or every voxel of a volume.

    Images may have any size that leaves more than one pixel at the bottom. An odd side is rounded
    up when it is halved, and the surplus row is cut off on the way up. Padding images to a multiple
    of 16 instead would make the border part of the instance norm.

    Attributes:
        num_classes: Number of classes, with the background.
        spatial_dims: 2 for images, 3 for volumes.
        features: Number of channels at the top; each level has twice as many as the one above.
        depth: Number of times that the maps are halved.
        dtype: Dtype of the computation.
        remat: Whether blocks are computed again in the backward pass, to save memory.
    """

    num_classes: int
    spatial_dims: SpatialDims = 2
    features: int = 32
    depth: int = 4
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch *space channels"], train: bool = False
    ) -> Float[Array, "batch *space classes"]:
        """Return the logits of the images.

        Args:
            images: ``[batch, *space, channels]`` with two or three axes of space, float, already
                normalized, with any number of channels.
            train: Without effect; training and evaluation are the same.

        Returns:
            Logits ``[batch, *space, num_classes]``, float32 (float64 if the model computes in
            float64).

        Raises:
            ValueError: If the images have another shape or dtype, or are so small that one pixel is
                left at the bottom.
        """
        self._check(images)
        block_class = nn.remat(ConvBlock) if self.remat else ConvBlock
        block = partial(block_class, dtype=self.dtype)
        widths = [self.features * 2**level for level in range(self.depth)]
        maps, skips = images, []
        for level, width in enumerate(widths, start=1):
            skips.append(block(width, name=f"down{level}")(maps))
            maps = halving_max_pool(skips[-1])
        maps = block(self.features * 2**self.depth, name="bottom")(maps)
        for level, width in reversed(list(enumerate(widths, start=1))):
            skip = skips.pop()
            maps = UpConv(width, dtype=self.dtype, name=f"up{level}")(maps)
            maps = maps[tuple(slice(side) for side in skip.shape[:-1])]
            maps = jnp.concatenate([skip, maps], axis=-1)
            maps = block(width, name=f"merge{level}")(maps)
        wide = parameter_dtype(self.dtype)
        # By default TPUs and GPUs may round the factors of a float32 product; not for the logits.
        head = partial(nn.Dense, self.num_classes, precision=lax.Precision.HIGHEST)
        return head(dtype=wide, param_dtype=wide, name="head")(maps)

    def _check(self, images: Array) -> None:
        expected = ("batch", *("depth", "height", "width")[-self.spatial_dims :], "channels")
        if images.ndim != len(expected) or not jnp.issubdtype(images.dtype, jnp.floating):
            raise ValueError(
                f"Images have shape {images.shape} and dtype {images.dtype}; expected normalized "
                f"floating-point images [{', '.join(expected)}]."
            )
        if max(images.shape[1:-1]) <= 2**self.depth:
            size = "x".join(map(str, images.shape[1:-1]))
            raise ValueError(
                f"Images of {size} leave one pixel after {self.depth} halvings, which instance "
                f"norm makes constant; expected a side of more than {2**self.depth}."
            )


@register_model(
    "unet",
    task="segmentation",
    summary="U-Net of images or volumes, with instance norm",
    source="nnU-Net",
    has_classifier_head=False,
    has_batch_norm=False,
    spatial_dims=(2, 3),
)
def unet(options: ModelOptions) -> UNet:
    """Return a U-Net with 32 channels at the top and 4 halvings."""
    return UNet(options.num_classes, options.spatial_dims, dtype=options.dtype, remat=options.remat)
