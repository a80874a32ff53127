"""Two-dimensional convolution, in the form that is fastest on the platform it is compiled for.

GPU and TPU compilers have fast convolution kernels and get ``lax.conv_general_dilated``. On a CPU,
XLA is fast at matrix products and at convolutions of large maps, but runs a slow loop for small
maps and for depthwise kernels. There the same sum is written as matrix products or shifted sums.
The thresholds below were measured with ``benchmarks.convolution``.
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

# Largest map, in pixels, that a CPU convolves as one product over its windows. XLA's convolution is
# at least as fast above it, and takes 69 times as long at 2x2.
SMALL_MAP_PIXELS = 16

# Smallest map, in pixels, for which a CPU uses XLA's convolution, and its gradients, at stride 1:
# windows and products of larger maps do not fit in the cache, and take twice as long.
LARGE_MAP_PIXELS = 64 * 64

# Widest window, in values, for which one product over the windows is fast on larger maps too, as in
# the first layer, 3x3 over RGB.
NARROW_WINDOW = 32

# Channels below which XLA's gradient of the kernel is faster than products, which would be narrow.
FEW_CHANNELS = 32

# Features up to which both gradients are products with the windows of the output gradient, so that
# the windows are laid out once for both.
WINDOWED_FEATURES = 64


def convolve(
    images: Float[Array, "batch height width channels"],
    kernel: Float[Array, "kernel_height kernel_width group_channels features"],
    *,
    stride: int = 1,
    padding: Padding = ((0, 0), (0, 0)),
) -> Float[Array, "batch out_height out_width features"]:
    """Convolve each image with a kernel, like ``lax.conv_general_dilated``.

    The form depends on the platform that the program is lowered for, not the one it is lowered on.
    On a CPU the gradient is written by hand: reverse mode and forward over reverse work, forward
    mode alone does not.

    Args:
        images: Maps ``[batch, height, width, channels]``.
        kernel: Weights ``[kernel_height, kernel_width, channels, features]``; or
            ``[kernel_height, kernel_width, 1, channels]`` for a depthwise convolution, with one
            filter per channel.
        stride: Step between neighboring outputs, in pixels of the input, along both axes.
        padding: Zeros added around each map.

    Returns:
        Maps ``[batch, out_height, out_width, features]`` in the dtype of ``images``.

    Raises:
        ValueError: If the kernel fits neither all channels nor each channel alone.
    """
    channels = images.shape[-1]
    if kernel.shape[2] != channels and kernel.shape[2:] != (1, channels):
        raise ValueError(
            f"A kernel of shape {kernel.shape} does not fit {channels} channels; expected "
            f"[rows, columns, {channels}, features] or, depthwise, [rows, columns, 1, {channels}]."
        )
    by_compiler = partial(_compiler_form, stride=stride, padding=padding)
    # jit traces once for all layers of one shape. It must be inside the choice of the platform:
    # around it, the choice would still be open when XLA selects convolution algorithms, and the
    # result three times as slow.
    on_cpu = partial(jax.jit(_cpu_form, static_argnums=(0, 1)), stride, padding)
    return lax.platform_dependent(images, kernel, cpu=on_cpu, default=by_compiler)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _cpu_form(stride: int, padding: Padding, images: Array, kernel: Array) -> Array:
    """Convolve in the fastest form on a CPU; the gradient has the fastest form too."""
    return _fastest_sum(images, kernel, stride=stride, padding=padding)


def _cpu_form_forward(
    stride: int, padding: Padding, images: Array, kernel: Array
) -> tuple[Array, tuple[Array, Array]]:
    return _fastest_sum(images, kernel, stride=stride, padding=padding), (images, kernel)


def _cpu_form_backward(
    stride: int, padding: Padding, saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    images, kernel = saved
    # The barrier keeps XLA from computing both again for each of their uses below.
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
    """Convolve in the fastest form on a CPU, with automatic gradients."""
    form = _fastest_form(images, kernel, stride)
    return form(images, kernel, stride=stride, padding=padding)


def _fastest_form(images: Array, kernel: Array, stride: int) -> Callable[..., Array]:
    """Return the fastest form on a CPU for these shapes."""
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
    """Return the gradient of the images.

    At stride 1 it is a convolution of the output gradient with the rotated kernel, whose fastest
    form may differ from the forward one.
    """
    height, width, channels, _ = kernel.shape
    if stride > 1 and _fastest_form(images, kernel, stride) is _compiler_form:
        size = images.shape[1], images.shape[2]
        return _compiler_image_gradient(kernel, size, gradient, stride, padding)
    one_pixel_or_depthwise = height * width == 1 or channels != images.shape[-1]
    if stride > 1 or one_pixel_or_depthwise or _is_small(images):
        convolution = partial(_fastest_sum, stride=stride, padding=padding)
        return jax.vjp(lambda images: convolution(images, kernel), images)[1](gradient)[0]
    rotated = kernel[::-1, ::-1].swapaxes(2, 3)
    opposite = _opposite(padding, (height, width))
    return _fastest_sum(gradient, rotated, stride=1, padding=opposite)


def _gradients_by_windows(
    images: Array, kernel: Array, gradient: Array, padding: Padding
) -> tuple[Array, Array]:
    """Return both gradients at stride 1, as products with the windows of the output gradient.

    For a 3x3 kernel the windows take nine times the memory of the gradient, so this is for layers
    with no more features than channels.
    """
    height, width, channels, features = kernel.shape
    opposite = _opposite(padding, (height, width))
    windows = jnp.concatenate(
        list(_shifted_images(gradient, (height, width), 1, opposite)), axis=-1
    )
    windows = lax.optimization_barrier(windows).reshape(-1, height * width * features)
    rotated = kernel[::-1, ::-1].swapaxes(2, 3).reshape(-1, channels)
    by_images = jnp.dot(windows, rotated).reshape(images.shape)
    columns = lax.optimization_barrier(images.reshape(-1, channels).T)
    by_kernel = jnp.dot(columns, windows).reshape(channels, height, width, features)
    return by_images, by_kernel[:, ::-1, ::-1].transpose(1, 2, 0, 3)


def _kernel_gradient(
    images: Array, shape: tuple[int, ...], gradient: Array, stride: int, padding: Padding
) -> Array:
    """Return the gradient of the kernel, as matrix products that sum over all pixels.

    Such a product needs one factor in column-major layout. Left alone, XLA chooses the wider factor
    and computes everything before it a second time in that layout. The barrier on the transposed,
    narrower factor fixes the choice; the barrier on the product keeps XLA from swapping the factors
    back.
    """
    height, width, _, features = shape
    gradient = gradient.reshape(-1, features)
    shifted = list(_shifted_images(images, (height, width), stride, padding))
    if _is_small(images):  # one product compiles faster, and runs as fast
        shifted = [jnp.concatenate(shifted, axis=-1)]
    shifted = [image.reshape(-1, image.shape[-1]) for image in shifted]
    if len(shifted) == 1 and shifted[0].shape[1] <= features:
        return jnp.dot(lax.optimization_barrier(shifted[0].T), gradient).reshape(shape)
    columns = lax.optimization_barrier(gradient.T)  # shared by all pixels of the kernel
    parts = [lax.optimization_barrier(jnp.dot(columns, image)).T for image in shifted]
    return jnp.concatenate(parts).reshape(shape)


def _depthwise_kernel_gradient(
    images: Array, kernel: Array, gradient: Array, stride: int, padding: Padding
) -> Array:
    """Return the gradient of a depthwise kernel, a sum for each of its pixels and channels."""
    height, width = kernel.shape[:2]
    shifted = _shifted_images(images, (height, width), stride, padding)
    sums = [_sum_over_batch(image * gradient).sum((0, 1)) for image in shifted]
    return jnp.stack(sums).reshape(kernel.shape)


def _sum_over_batch(products: Array) -> Array:
    """Sum over the first axis, in one loop with the multiplication.

    XLA would offload a plain sum to a library, which needs the products in memory. Writing it as
    ``total - (-product)`` prevents that.
    """
    zero = jnp.zeros((), products.dtype)
    return lax.reduce(products, zero, lambda total, product: total - (-product), (0,))


def _compiler_form(images: Array, kernel: Array, *, stride: int, padding: Padding) -> Array:
    """Convolve with the compiler's convolution."""
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
    """Return the gradient of ``_compiler_form`` for images of this size.

    This and the function below compute what ``jax.vjp`` does, with the axes in the order for which
    XLA has a fast convolution. XLA transposes them itself, except in the body of a loop, such as
    the one over micro-batches.
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
    """Return the gradient of ``_compiler_form`` for a kernel of this size.

    It is a convolution that sums over the batch as if it were the channels.
    """
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
    """Return the size of the output gradient after dilation by the stride."""
    return [(side - 1) * stride + 1 for side in gradient.shape[1:3]]


def _padding_to(
    size: Sequence[int], inputs: Sequence[int], window: Sequence[int], before: Sequence[int]
) -> list[tuple[int, int]]:
    """Return the padding, given its part before the inputs, that yields outputs of this size."""
    sides = zip(size, inputs, window, before, strict=True)
    return [(first, out + k - 1 - n - first) for out, n, k, first in sides]


def _window_product(images: Array, kernel: Array, *, stride: int, padding: Padding) -> Array:
    """Convolve as one matrix product of all windows with the kernel, both flattened (im2col)."""
    height, width, channels, features = kernel.shape
    windows = jnp.concatenate(
        list(_shifted_images(images, (height, width), stride, padding)), axis=-1
    )
    return jnp.dot(windows, kernel.reshape(height * width * channels, features))


def _sum_of_shifted_products(
    images: Array, kernel: Array, *, stride: int, padding: Padding
) -> Array:
    """Convolve as one product with the weights of all kernel pixels, whose parts are added.

    This is for few features: the product has that many for every pixel of the kernel.
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
    """Convolve depthwise as a sum of shifted images, each times the weights of a kernel pixel."""
    height, width, _, features = kernel.shape
    weights = kernel.reshape(height * width, 1, 1, 1, features)
    shifted = _shifted_images(images, (height, width), stride, padding)
    return sum(image * weight for image, weight in zip(shifted, weights, strict=True))


def _opposite(padding: Padding, kernel_size: tuple[int, int]) -> Padding:
    """Return the padding with which a rotated kernel maps the outputs back to the inputs."""
    (top, bottom), (left, right) = padding
    height, width = kernel_size[0] - 1, kernel_size[1] - 1
    return (height - top, height - bottom), (width - left, width - right)


def _shifted_images(
    images: Array, kernel_size: tuple[int, int], stride: int, padding: Padding
) -> Iterator[Array]:
    """Yield, for each kernel pixel in row-major order, the input pixels that it multiplies."""
    images = lax.optimization_barrier(_pad(images, padding))  # padded once for all kernel pixels
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
    """Add zeros around each map; negative padding crops it."""
    config = ((0, 0, 0), *((before, after, 0) for before, after in padding), (0, 0, 0))
    return lax.pad(images, jnp.zeros((), images.dtype), config)
