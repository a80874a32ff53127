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
    """Twice a 3x3(x3) convolution without bias, instance norm and ReLU.

    Attributes:
        features: number of output channels.
        dtype: dtype of the computation.
    """

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, maps: Float[Array, "batch *space channels"]
    ) -> Float[Array, "batch *space features"]:
        """Maps of the same size."""
        conv = partial(Conv, self.features, 3, kernel_init=_KERNEL_INIT, dtype=self.dtype)
        for layer in (1, 2):
            maps = conv(name=f"conv{layer}")(maps)
            maps = nn.relu(InstanceNorm(dtype=self.dtype, name=f"norm{layer}")(maps))
        return maps


class UpConv(nn.Module):
    """Transposed convolution whose kernel and stride are 2: maps of twice the size.

    No two windows overlap, so it is one matrix product, whose columns are laid out side by side.

    Attributes:
        features: number of output channels.
        dtype: dtype of the computation.
    """

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, maps: Float[Array, "batch *space channels"]
    ) -> Float[Array, "batch *double_space features"]:
        """Spreads each pixel over a square or cube of side 2, and adds the bias."""
        batch, *space, channels = maps.shape
        dims = len(space)
        shape = (*(2,) * dims, channels, self.features)
        # Each output sees one pixel of all channels.
        init = nn.initializers.variance_scaling(
            1.0, "fan_in", "normal", batch_axis=tuple(range(dims))
        )
        kernel = self.param("kernel", init, shape, parameter_dtype(self.dtype))
        bias = self.param("bias", nn.initializers.zeros, (self.features,), kernel.dtype)
        columns = jnp.moveaxis(kernel.astype(self.dtype), -2, 0).reshape(channels, -1)
        pixels = maps.astype(self.dtype).reshape(batch, -1, 1, channels)
        products = convolve(pixels, columns[None, None])  # on a CPU a product with fast gradients
        products = products.reshape(batch, *space, *(2,) * dims, self.features)
        pairs = (axis for side in range(1, dims + 1) for axis in (side, side + dims))
        outputs = products.transpose(0, *pairs, 2 * dims + 1)
        outputs = outputs.reshape(batch, *(2 * side for side in space), self.features)
        return outputs + bias.astype(self.dtype).reshape(*(1,) * (dims + 1), -1)


class UNet(nn.Module):
    """A U-Net: logits of every pixel of an image, or of every voxel of a volume.

    Every size will do that leaves more than one pixel at the bottom. Where a side is odd on its way
    down, it is halved upwards, and on the way up the last row is cut off: no map is padded to a
    multiple of 16 and normalised with its border.

    Attributes:
        num_classes: number of classes, with the background.
        spatial_dims: 2 for images, 3 for volumes.
        features: number of channels at the top; each level has twice as many as the one above.
        depth: how often the maps are halved.
        dtype: dtype of the computation.
        remat: whether blocks are computed again in the backward pass, to save memory.
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
        """Logits of the images.

        Args:
            images: `[batch, height, width, channels]`, or `[batch, depth, height, width, channels]`
                with `spatial_dims=3`; float, already normalised, any number of channels.
            train: whether this is training, which makes no difference to this model.

        Returns:
            Logits `[batch, *space, num_classes]`, float32 (float64 if the model computes in
            float64).

        Raises:
            ValueError: if the images are not of that kind, or so small that one pixel is left at
                the bottom.
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
        # TPUs and GPUs may round the factors of a float32 product; the logits are worth the bits.
        head = partial(nn.Dense, self.num_classes, precision=lax.Precision.HIGHEST)
        return head(dtype=wide, param_dtype=wide, name="head")(maps)

    def _check(self, images: Array) -> None:
        expected = ("batch", *("depth", "height", "width")[-self.spatial_dims :], "channels")
        if images.ndim != len(expected) or not jnp.issubdtype(images.dtype, jnp.floating):
            raise ValueError(
                f"Images have shape {images.shape} and dtype {images.dtype}; expected normalised "
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
