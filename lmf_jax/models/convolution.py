"""Two-dimensional convolution, in the form that is fast on the platform it is compiled for.

GPU and TPU compilers have convolution kernels of their own and get `lax.conv_general_dilated` as
it is. On a CPU, XLA multiplies matrices well and convolves large maps well, but falls back to a
slow loop for small maps and for depthwise kernels; there the same sum is written in other ways.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

Padding = tuple[tuple[int, int], tuple[int, int]]
"""Zeros added to the rows (top, bottom) and to the columns (left, right)."""

# Largest map, in pixels, that is convolved on a CPU as one product over its windows. Above it XLA's
# own convolution is as fast or faster; at 2x2 it takes 69 times as long (benchmarks.convolution).
SMALL_MAP_PIXELS = 16

# Smallest map, in pixels, that is convolved on a CPU by XLA alone, gradients too, if the stride is
# 1: windows and products of such maps fall out of the cache, and take twice as long.
LARGE_MAP_PIXELS = 64 * 64

# Widest window, in values, that is as well multiplied flat: the first layer's 3x3 over RGB.
NARROW_WINDOW = 32

# Channels below which XLA's own gradient by the kernel is faster than products, which would be
# narrow.
FEW_CHANNELS = 32

# Features up to which both gradients are products with the gradient's windows, which are laid out
# once for the two.
WINDOWED_FEATURES = 64


def convolve(
    images: Float[Array, "batch height width channels"],
    kernel: Float[Array, "kernel_height kernel_width group_channels features"],
    *,
    stride: int = 1,
    padding: Padding = ((0, 0), (0, 0)),
) -> Float[Array, "batch out_height out_width features"]:
    """Convolves each image with a kernel, like `lax.conv_general_dilated`.

    The form follows the platform that the program is lowered for, not the one it is lowered on. On
    a CPU the gradient is written by hand: reverse mode and forward over reverse work, forward mode
    alone does not.

    Args:
        images: maps `[batch, height, width, channels]`.
        kernel: weights `[kernel_height, kernel_width, channels, features]`; or
            `[kernel_height, kernel_width, 1, channels]` for a depthwise convolution, which gives
            each channel a filter of its own.
        stride: step between neighbouring outputs, in pixels of the input, along both axes.
        padding: zeros added around each map.

    Returns:
        Maps `[batch, out_height, out_width, features]` in the dtype of `images`.

    Raises:
        ValueError: if the kernel fits neither all channels nor each channel alone.
    """
    channels = images.shape[-1]
    if kernel.shape[2] != channels and kernel.shape[2:] != (1, channels):
        raise ValueError(
            f"A kernel of shape {kernel.shape} does not fit {channels} channels; expected "
            f"[rows, columns, {channels}, features] or, depthwise, [rows, columns, 1, {channels}]."
        )
    by_compiler = partial(_compiler_form, stride=stride, padding=padding)
    # Traced once for all layers of one shape. Around the choice of the platform `jit` would keep it
    # open until XLA has chosen forms for its convolutions: three times as slow.
    on_cpu = partial(jax.jit(_cpu_form, static_argnums=(0, 1)), stride, padding)
    return lax.platform_dependent(images, kernel, cpu=on_cpu, default=by_compiler)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _cpu_form(stride: int, padding: Padding, images: Array, kernel: Array) -> Array:
    """The fastest form of the convolution on a CPU, and the fastest of its gradient."""
    return _fastest_sum(images, kernel, stride=stride, padding=padding)


def _cpu_form_forward(
    stride: int, padding: Padding, images: Array, kernel: Array
) -> tuple[Array, tuple[Array, Array]]:
    return _fastest_sum(images, kernel, stride=stride, padding=padding), (images, kernel)


def _cpu_form_backward(
    stride: int, padding: Padding, saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    images, kernel = saved
    # Both are read several times below; behind the barrier they are not computed each time.
    images, gradient = lax.optimization_barrier((images, gradient))
    height, width, channels, features = kernel.shape
    depthwise = channels != images.shape[-1]
    narrow = channels >= FEW_CHANNELS and features <= min(channels, WINDOWED_FEATURES)
    by_windows = stride == 1 and height * width > 1 and narrow and not depthwise
    if by_windows and not (_is_small(images) or _is_large(images)):
        return _gradients_by_windows(images, kernel, gradient, padding)
    by_images = _image_gradient(images, kernel, gradient, stride, padding)
    if depthwise:
        return by_images, _depthwise_kernel_gradient(images, kernel, gradient, stride, padding)
    large = height * width > 1 and stride == 1 and _is_large(images)
    if not large and channels >= FEW_CHANNELS:
        return by_images, _kernel_gradient(images, kernel.shape, gradient, stride, padding)
    form = _compiler_form if large else _fastest_form(images, kernel, stride)
    if form is _compiler_form:
        size = height, width
        return by_images, _compiler_kernel_gradient(images, size, gradient, stride, padding)
    convolution = partial(form, images, stride=stride, padding=padding)
    return by_images, jax.vjp(convolution, kernel)[1](gradient)[0]


_cpu_form.defvjp(_cpu_form_forward, _cpu_form_backward)


def _fastest_sum(images: Array, kernel: Array, *, stride: int, padding: Padding) -> Array:
    """The convolution in the form that sums it fastest on a CPU."""
    form = _fastest_form(images, kernel, stride)
    return form(images, kernel, stride=stride, padding=padding)


def _fastest_form(images: Array, kernel: Array, stride: int) -> Callable[..., Array]:
    """Decided by the shapes alone."""
    height, width, channels, features = kernel.shape
    pixels = height * width
    if channels != images.shape[-1]:
        return _shifted_sum
    if pixels == 1 or pixels * channels <= NARROW_WINDOW or _is_small(images):
        return _window_product
    if stride == 1 and 2 * features <= channels and not _is_large(images):
        return _sum_of_shifted_products
    return _compiler_form


def _is_small(images: Array) -> bool:
    return images.shape[1] * images.shape[2] <= SMALL_MAP_PIXELS


def _is_large(images: Array) -> bool:
    return images.shape[1] * images.shape[2] >= LARGE_MAP_PIXELS


def _image_gradient(
    images: Array, kernel: Array, gradient: Array, stride: int, padding: Padding
) -> Array:
    """Gradient of the convolution by its images.

    Where the stride is 1 it is itself a convolution, of the gradient with the turned kernel, and
    may have another form than the one forward.
    """
    height, width, channels, _ = kernel.shape
    if stride > 1 and _fastest_form(images, kernel, stride) is _compiler_form:
        size = images.shape[1], images.shape[2]
        return _compiler_image_gradient(kernel, size, gradient, stride, padding)
    one_pixel_or_depthwise = height * width == 1 or channels != images.shape[-1]
    if stride > 1 or one_pixel_or_depthwise or _is_small(images):
        convolution = partial(_fastest_sum, stride=stride, padding=padding)
        return jax.vjp(lambda images: convolution(images, kernel), images)[1](gradient)[0]
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    opposite = _opposite(padding, (height, width))
    return _fastest_sum(gradient, turned, stride=1, padding=opposite)


def _gradients_by_windows(
    images: Array, kernel: Array, gradient: Array, padding: Padding
) -> tuple[Array, Array]:
    """Both gradients of a convolution of stride 1, as products with the gradient's windows.

    These take nine times the gradient's room, so it has to be the narrower one.
    """
    height, width, channels, features = kernel.shape
    opposite = _opposite(padding, (height, width))
    windows = jnp.concatenate(
        list(_shifted_images(gradient, (height, width), 1, opposite)), axis=-1
    )
    windows = lax.optimization_barrier(windows).reshape(-1, height * width * features)
    turned = kernel[::-1, ::-1].swapaxes(2, 3).reshape(-1, channels)
    by_images = jnp.dot(windows, turned).reshape(images.shape)
    columns = lax.optimization_barrier(images.reshape(-1, channels).T)
    by_kernel = jnp.dot(columns, windows).reshape(channels, height, width, features)
    return by_images, by_kernel[:, ::-1, ::-1].transpose(1, 2, 0, 3)


def _kernel_gradient(
    images: Array, shape: tuple[int, ...], gradient: Array, stride: int, padding: Padding
) -> Array:
    """Gradient of the convolution by its kernel, as matrix products that sum over all pixels.

    Such a product needs one factor by columns. XLA by itself takes the wider one, and computes all
    that led to it once more in that order; behind a barrier it is laid out as it lies, here the
    narrower one. A second barrier keeps XLA from turning the product around again.
    """
    height, width, _, features = shape
    gradient = gradient.reshape(-1, features)
    shifted = list(_shifted_images(images, (height, width), stride, padding))
    if _is_small(images):  # quicker to compile, and as fast
        shifted = [jnp.concatenate(shifted, axis=-1)]
    shifted = [image.reshape(-1, image.shape[-1]) for image in shifted]
    if len(shifted) == 1 and shifted[0].shape[1] <= features:
        return jnp.dot(lax.optimization_barrier(shifted[0].T), gradient).reshape(shape)
    columns = lax.optimization_barrier(gradient.T)  # once, for all pixels of the kernel
    parts = [lax.optimization_barrier(jnp.dot(columns, image)).T for image in shifted]
    return jnp.concatenate(parts).reshape(shape)


def _depthwise_kernel_gradient(
    images: Array, kernel: Array, gradient: Array, stride: int, padding: Padding
) -> Array:
    """Gradient of a depthwise convolution by its kernel: a sum for each pixel of it and channel."""
    height, width = kernel.shape[:2]
    shifted = _shifted_images(images, (height, width), stride, padding)
    sums = [_sum_over_batch(image * gradient).sum((0, 1)) for image in shifted]
    return jnp.stack(sums).reshape(kernel.shape)


def _sum_over_batch(products: Array) -> Array:
    """Sum over the first axis in one loop that also multiplies.

    A plain sum XLA hands to a library, which wants the products laid out before. Minus minus is not
    plain enough for that.
    """
    zero = jnp.zeros((), products.dtype)
    return lax.reduce(products, zero, lambda total, product: total - (-product), (0,))


def _compiler_form(images: Array, kernel: Array, *, stride: int, padding: Padding) -> Array:
    """The compiler's own convolution."""
    return lax.conv_general_dilated(
        images,
        kernel,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=images.shape[-1] // kernel.shape[2],
    )


def _compiler_image_gradient(
    kernel: Array, size: tuple[int, int], gradient: Array, stride: int, padding: Padding
) -> Array:
    """Gradient of `_compiler_form` by images of this size.

    It and the one below are what `jax.vjp` gives, but with their axes in the order for which XLA
    has a fast convolution. XLA would turn them itself, but not in the body of a loop such as that
    over micro-batches.
    """
    window = kernel.shape[:2]
    before = [k - 1 - side[0] for k, side in zip(window, padding, strict=True)]
    return lax.conv_general_dilated(
        gradient,
        kernel[::-1, ::-1].swapaxes(2, 3),
        window_strides=(1, 1),
        padding=_padding_to(size, _spread(gradient, stride), window, before),
        lhs_dilation=(stride, stride),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _compiler_kernel_gradient(
    images: Array, size: tuple[int, int], gradient: Array, stride: int, padding: Padding
) -> Array:
    """Gradient of `_compiler_form` by a kernel of this size: the batch is summed like channels."""
    before = [side[0] for side in padding]
    by_kernel = lax.conv_general_dilated(
        images.transpose(3, 1, 2, 0),
        gradient.transpose(1, 2, 0, 3),
        window_strides=(1, 1),
        padding=_padding_to(size, images.shape[1:3], _spread(gradient, stride), before),
        rhs_dilation=(stride, stride),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return by_kernel.transpose(1, 2, 0, 3)


def _spread(gradient: Array, stride: int) -> list[int]:
    """The sides of outputs with the stride's pixels between them."""
    return [(side - 1) * stride + 1 for side in gradient.shape[1:3]]


def _padding_to(
    size: Sequence[int], inputs: Sequence[int], window: Sequence[int], before: Sequence[int]
) -> list[tuple[int, int]]:
    """The padding, as given before the inputs, with which a window comes to a size of outputs."""
    sides = zip(size, inputs, window, before, strict=True)
    return [(first, out + k - 1 - n - first) for out, n, k, first in sides]


def _window_product(images: Array, kernel: Array, *, stride: int, padding: Padding) -> Array:
    """One matrix product of all windows, laid out flat, with the flat kernel ("im2col")."""
    height, width, channels, features = kernel.shape
    windows = jnp.concatenate(
        list(_shifted_images(images, (height, width), stride, padding)), axis=-1
    )
    return jnp.dot(windows, kernel.reshape(height * width * channels, features))


def _sum_of_shifted_products(
    images: Array, kernel: Array, *, stride: int, padding: Padding
) -> Array:
    """One product with the weights of all the kernel's pixels, whose parts are shifted and added.

    For few features: the product is as many times wider as the kernel has pixels.
    """
    height, width, channels, features = kernel.shape
    weights = kernel.transpose(2, 0, 1, 3).reshape(channels, height * width * features)
    products = jnp.dot(images, weights)
    products = lax.optimization_barrier(_pad(products, padding))
    rows = products.shape[1] - height + 1
    columns = products.shape[2] - width + 1
    return sum(
        products[:, row : row + rows, column : column + columns, first : first + features]
        for first, (row, column) in zip(
            range(0, products.shape[-1], features), np.ndindex(height, width), strict=True
        )
    )


def _shifted_sum(images: Array, kernel: Array, *, stride: int, padding: Padding) -> Array:
    """Sum over the kernel's pixels of the shifted images, times that pixel's weights."""
    height, width, _, features = kernel.shape
    weights = kernel.reshape(height * width, 1, 1, 1, features)
    shifted = _shifted_images(images, (height, width), stride, padding)
    return sum(image * weight for image, weight in zip(shifted, weights, strict=True))


def _opposite(padding: Padding, kernel_size: tuple[int, int]) -> Padding:
    """The padding with which a turned kernel leads back from the outputs to the inputs."""
    (top, bottom), (left, right) = padding
    height, width = kernel_size[0] - 1, kernel_size[1] - 1
    return (height - top, height - bottom), (width - left, width - right)


def _shifted_images(
    images: Array, kernel_size: tuple[int, int], stride: int, padding: Padding
) -> Iterator[Array]:
    """For each pixel of the kernel, row by row, the input pixels that it meets."""
    images = lax.optimization_barrier(_pad(images, padding))
    batch, height, width, channels = images.shape
    last_row, last_column = height - kernel_size[0], width - kernel_size[1]
    for row in range(kernel_size[0]):
        for column in range(kernel_size[1]):
            yield lax.slice(
                images,
                (0, row, column, 0),
                (batch, row + last_row + 1, column + last_column + 1, channels),
                (1, stride, stride, 1),
            )


def _pad(images: Array, padding: Padding) -> Array:
    """Adds zeros around each map; a negative padding takes pixels away."""
    config = ((0, 0, 0), *((before, after, 0) for before, after in padding), (0, 0, 0))
    return lax.pad(images, jnp.zeros((), images.dtype), config)
