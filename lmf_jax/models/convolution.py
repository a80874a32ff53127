"""Two-dimensional convolution, in the form that is fast on the platform it is compiled for.

GPU and TPU compilers have convolution kernels of their own and get `lax.conv_general_dilated` as
it is. On a CPU, XLA multiplies matrices well and convolves large maps well, but falls back to a
slow loop for small maps and for depthwise kernels; there the same sum is written in other ways.
"""

from collections.abc import Callable, Iterator
from functools import partial

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

Padding = tuple[tuple[int, int], tuple[int, int]]
"""Zeros added to the rows (top, bottom) and to the columns (left, right)."""

# Largest map, in pixels, that is convolved on a CPU as one product over its windows. Above it XLA's
# own convolution is as fast or faster; at 2x2 it takes 100 times as long.
SMALL_MAP_PIXELS = 16


def convolve(
    images: Float[Array, "batch height width channels"],
    kernel: Float[Array, "kernel_height kernel_width group_channels features"],
    *,
    stride: int = 1,
    padding: Padding = ((0, 0), (0, 0)),
) -> Float[Array, "batch out_height out_width features"]:
    """Convolves each image with a kernel, like `lax.conv_general_dilated`.

    The form follows the platform that the program is lowered for, not the one it is lowered on.

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
    compiler_form = partial(_compiler_form, stride=stride, padding=padding)
    cpu_form = _choose_cpu_form(images.shape, kernel.shape)
    if cpu_form is _compiler_form:
        return compiler_form(images, kernel)
    return lax.platform_dependent(
        images, kernel, cpu=partial(cpu_form, stride=stride, padding=padding), default=compiler_form
    )


def _choose_cpu_form(
    images_shape: tuple[int, ...], kernel_shape: tuple[int, ...]
) -> Callable[..., Array]:
    _, height, width, channels = images_shape
    if kernel_shape[2] != channels:
        return _shifted_sum
    if kernel_shape[:2] == (1, 1) or height * width <= SMALL_MAP_PIXELS:
        return _window_product
    return _compiler_form


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


def _window_product(images: Array, kernel: Array, *, stride: int, padding: Padding) -> Array:
    """One matrix product of all windows, laid out flat, with the flat kernel ("im2col")."""
    height, width, channels, features = kernel.shape
    windows = jnp.concatenate(
        list(_shifted_images(images, (height, width), stride, padding)), axis=-1
    )
    return jnp.dot(windows, kernel.reshape(height * width * channels, features))


def _shifted_sum(images: Array, kernel: Array, *, stride: int, padding: Padding) -> Array:
    """Sum over the kernel's pixels of the shifted images, times that pixel's weights."""
    height, width, _, features = kernel.shape
    weights = kernel.reshape(height * width, 1, 1, 1, features)
    shifted = _shifted_images(images, (height, width), stride, padding)
    return sum(image * weight for image, weight in zip(shifted, weights, strict=True))


def _shifted_images(
    images: Array, kernel_size: tuple[int, int], stride: int, padding: Padding
) -> Iterator[Array]:
    """For each pixel of the kernel, row by row, the input pixels that it meets."""
    images = jnp.pad(images, ((0, 0), *padding, (0, 0)))
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
