"""Layers shared by the models: convolution, batch and instance norm, dropout, pooling."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from lmf_jax.models.batch_norm import normalize, normalize_batch
from lmf_jax.models.convolution import convolve
from lmf_jax.models.convolution_3d import convolve_volumes
from lmf_jax.models.instance_norm import normalize_instances

Initializer = Callable[..., Array]

PerAxis = int | tuple[int, ...]
"""A number for every axis of space, or one for each: slices, rows and columns."""

ImageBatch = Float[Array, "batch height width channels"]
"""Images of a batch, normalized."""
InputMap = Float[Array, "batch height width channels"]
"""Feature maps of a batch, or images."""
OutputMap = Float[Array, "batch out_height out_width features"]
"""Feature maps whose size and channels may differ from those of the input."""


def parameter_dtype(dtype: DTypeLike) -> jnp.dtype:
    """Return the dtype of parameters, batch statistics and logits for a computation in ``dtype``.

    It is at least float32: half precision makes layers faster, and gains nothing in parameters.
    """
    return jnp.dtype(jnp.float64 if jnp.dtype(dtype) == jnp.float64 else jnp.float32)


class DistributedModule(nn.Module, kw_only=True):
    """Base class of modules that share a batch with those on other devices.

    Attributes:
        dtype: Dtype of the computation.
        axis_name: The mapped axis over whose devices the batch is spread, or None.
    """

    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None


class Conv(nn.Module):
    """Convolution with zero padding, as ``torch.nn.Conv2d`` and ``Conv3d``.

    The padding keeps the size of the map at stride 1: ``(kernel_size - 1) // 2`` on each side.
    TensorFlow's SAME is different at a larger stride: it adds no more zeros than the outputs need,
    and the odd one at the end.

    Attributes:
        features: Number of output channels.
        kernel_size: Side of the kernel, in pixels; or its slices, rows and columns.
        stride: Step between outputs, in pixels; or along slices, rows and columns.
        depthwise: Whether each channel is convolved separately; not for volumes.
        use_bias: Whether a learned bias is added to each output channel.
        same_padding: Whether images are padded as by TensorFlow's SAME.
        kernel_init: Initializer of the kernel.
        dtype: Dtype of the computation.
    """

    features: int
    kernel_size: PerAxis = 1
    stride: PerAxis = 1
    depthwise: bool = False
    use_bias: bool = False
    same_padding: bool = False
    kernel_init: Initializer = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch *space channels"]
    ) -> Float[Array, "batch *out_space features"]:
        """Convolve the images or volumes and add the bias, if there is one.

        Raises:
            ValueError: If volumes have a depthwise kernel.
        """
        dims = images.ndim - 2
        if dims == 3 and self.depthwise:
            raise ValueError("Volumes are convolved over all channels; depthwise=True was given.")
        channels = 1 if self.depthwise else images.shape[-1]
        sides, strides = (_per_axis(size, dims) for size in (self.kernel_size, self.stride))
        shape = (*sides, channels, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, parameter_dtype(self.dtype))
        images, weights = images.astype(self.dtype), kernel.astype(self.dtype)
        padding = list(map(self._padding, images.shape[1:-1], sides, strides))
        if dims == 3:
            depth, height, width = padding
            outputs = convolve_volumes(
                images,
                weights,
                stride=(strides[0], strides[1], strides[2]),
                padding=(depth, height, width),
            )
        else:
            height, width = padding
            outputs = convolve(images, weights, stride=strides[0], padding=(height, width))
        if not self.use_bias:
            return outputs
        bias = self.param("bias", nn.initializers.zeros, (self.features,), kernel.dtype)
        return outputs + bias.astype(self.dtype).reshape(*(1,) * (dims + 1), -1)

    def _padding(self, size: int, side: int, stride: int) -> tuple[int, int]:
        """Return the zeros before and after an axis of an image."""
        if not self.same_padding:
            return (side - 1) // 2, (side - 1) // 2
        last = (size - 1) // stride * stride  # where the last window begins
        zeros = max(last + side - size, 0)
        return zeros // 2, zeros - zeros // 2


def _per_axis(size: PerAxis, dims: int) -> tuple[int, ...]:
    return size if isinstance(size, tuple) else (size,) * dims


class BatchNorm(nn.Module):
    """Batch normalization over all axes but the last, computed as in ``torch.nn.BatchNorm2d``.

    In training the batch is normalized by its own mean and biased variance, while the running
    variance is updated with the unbiased one (``n / (n - 1)`` times as large), as in PyTorch but
    not in ``flax.linen.BatchNorm``.

    Attributes:
        epsilon: Added to the variance before the square root.
        momentum: Weight of the old running statistics (PyTorch's momentum 0.1 is 0.9 here).
        dtype: Dtype of the output; statistics are computed in at least float32.
        axis_name: The mapped axis over whose devices the batch is spread; the statistics are then
            those of the whole batch. None: no such axis.

    Source: Ioffe and Szegedy, "Batch normalization", 2015, arXiv 1502.03167.
    """

    epsilon: float = 1e-5
    momentum: float = 0.9
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "*batch channels"], train: bool
    ) -> Float[Array, "*batch channels"]:
        """Normalize by the statistics of the batch if ``train``, else by the running ones."""
        shape, dtype = inputs.shape[-1:], parameter_dtype(self.dtype)
        scale = self.param("scale", nn.initializers.ones, shape, dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, dtype)

        inputs = inputs.astype(self.dtype)
        if not train or self.is_initializing():
            mean, var = running_mean.value, running_var.value
            return normalize(inputs, mean, var, scale, bias, self.epsilon)
        outputs, mean, var = normalize_batch(inputs, scale, bias, self.epsilon, self.axis_name)
        for running, new in ((running_mean, mean), (running_var, var)):
            running.value = self.momentum * running.value + (1 - self.momentum) * new
        return outputs


class InstanceNorm(nn.Module):
    """Instance normalization, computed as in ``torch.nn.InstanceNorm2d`` with ``affine=True``.

    It has no running statistics, so training and evaluation are the same.

    Attributes:
        epsilon: Added to the variance before the square root.
        dtype: Dtype of the output; statistics are computed in at least float32.

    Source: Ulyanov et al., "Instance normalization", 2016, arXiv 1607.08022.
    """

    epsilon: float = 1e-5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "batch *space channels"]
    ) -> Float[Array, "batch *space channels"]:
        """Normalize each channel of each sample over space, then scale and shift it."""
        shape, dtype = inputs.shape[-1:], parameter_dtype(self.dtype)
        scale = self.param("scale", nn.initializers.ones, shape, dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, dtype)
        return normalize_instances(inputs.astype(self.dtype), scale, bias, self.epsilon)


class Dropout(nn.Module):
    """Dropout whose draws depend on the key, the module and the example's position in the batch.

    The position is counted over all devices, so any number of devices draws the same values.

    Attributes:
        rate: Probability that a value is set to zero; the others are divided by ``1 - rate``.
        whole_examples: Whether there is one draw per example (stochastic depth) instead of one per
            value.
        axis_name: The mapped axis over whose devices the batch is spread, or None.

    Sources: Srivastava et al., "Dropout", JMLR 2014; Huang et al., "Deep networks with stochastic
    depth", 2016, arXiv 1603.09382.
    """

    rate: float
    whole_examples: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "batch *rest"], train: bool
    ) -> Float[Array, "batch *rest"]:
        """Drop at random if ``train``, else return the inputs."""
        if not train or self.rate == 0 or self.is_initializing():
            return inputs
        shape = (1,) * (inputs.ndim - 1) if self.whole_examples else inputs.shape[1:]
        keys = example_keys(self.make_rng("dropout"), inputs.shape[0], self.axis_name)
        keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.rate, shape))(keys)
        return jnp.where(keep, inputs / (1 - self.rate), jnp.zeros_like(inputs))


def example_keys(
    key: Key[Array, ""], local_batch: int, axis_name: str | None
) -> Key[Array, " {local_batch}"]:
    """Return one key per example, from its position in the batch over all devices."""
    positions = jnp.arange(local_batch, dtype=jnp.int32)
    if axis_name is not None:
        positions = positions + lax.axis_index(axis_name) * local_batch
    return jax.vmap(jax.random.fold_in, (None, 0))(key, positions)


class ConvNorm(DistributedModule):
    """A convolution without bias, then batch norm.

    Attributes:
        features: Number of output channels.
        kernel_size: As in :class:`Conv`.
        stride: As in :class:`Conv`.
        depthwise: Whether each channel is convolved separately.
        same_padding: Whether images are padded as by TensorFlow's SAME.
        epsilon: Added to the variance in the batch norm.
    """

    features: int
    kernel_size: PerAxis = 1
    stride: PerAxis = 1
    depthwise: bool = False
    same_padding: bool = False
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "batch *space channels"], train: bool
    ) -> Float[Array, "batch *out_space features"]:
        """Convolve and normalize."""
        conv = Conv(
            self.features,
            self.kernel_size,
            self.stride,
            depthwise=self.depthwise,
            same_padding=self.same_padding,
            dtype=self.dtype,
            name="conv",
        )
        norm = BatchNorm(self.epsilon, dtype=self.dtype, axis_name=self.axis_name, name="norm")
        return norm(conv(inputs), train)


def rematerialized(block: type[nn.Module], remat: bool) -> type[nn.Module]:
    """Return the block, which with ``remat`` keeps its inputs alone for the backward pass.

    Args:
        block: A module whose call takes the inputs and ``train``.
        remat: Whether the block is computed again in the backward pass, to save memory.

    Source: Chen et al., "Training deep nets with sublinear memory cost", 2016, arXiv 1604.06174.
    """
    return nn.remat(block, static_argnums=2) if remat else block


def max_pool(
    images: Float[Array, "batch height width channels"],
) -> Float[Array, "batch out_height out_width channels"]:
    """Return the maximum of each 3x3 window at stride 2, with padding that is never the maximum."""
    return lax.platform_dependent(images, cpu=_separable_max_pool, default=_window_max_pool)


def _window_max_pool(images: Array) -> Array:
    return nn.max_pool(images, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))


def _separable_max_pool(images: Array) -> Array:
    # Columns, then rows: on a CPU the gradient of nn.max_pool is a slow loop over windows.
    for axis in (2, 1):
        border = [(1, 1) if a == axis else (0, 0) for a in range(images.ndim)]
        padded = jnp.pad(images, border, constant_values=-jnp.inf)
        last = padded.shape[axis] - 3
        first, second, third = (
            lax.slice_in_dim(padded, start, start + last + 1, 2, axis) for start in range(3)
        )
        images = _earlier_max(_earlier_max(first, second), third)
    return images


def _earlier_max(earlier: Array, later: Array) -> Array:
    """Return the larger value; of equal values the earlier gets the gradient, as in PyTorch."""
    return jnp.where((later > earlier) | jnp.isnan(later), later, earlier)


def halving_max_pool(
    maps: Float[Array, "batch *space channels"],
) -> Float[Array, "batch *half_space channels"]:
    """Return the maximum of each 2x2 square or 2x2x2 cube, at stride 2.

    An odd side is rounded up, as in PyTorch with ``ceil_mode=True``. Of equal values, the first in
    memory order gets the gradient, as in PyTorch.
    """
    for axis in range(maps.ndim - 2, 0, -1):
        size = maps.shape[axis]
        if size % 2:
            border = [(0, int(a == axis)) for a in range(maps.ndim)]
            maps = jnp.pad(maps, border, constant_values=-jnp.inf)
        pair = (lax.slice_in_dim(maps, start, size + size % 2, 2, axis) for start in (0, 1))
        maps = _earlier_max(*pair)
    return maps


def average_pool(
    images: Float[Array, "batch height width channels"],
) -> Float[Array, "batch out_height out_width channels"]:
    """Return the mean of each 2x2 square, without an odd last row or column."""
    batch, height, width, channels = images.shape
    rows, columns = height // 2, width // 2
    squares = images[:, : 2 * rows, : 2 * columns].reshape(batch, rows, 2, columns, 2, channels)
    return squares.mean((2, 4))
