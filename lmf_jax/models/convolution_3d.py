"""Three-dimensional convolution, in the form that is fastest on the platform it is compiled for.

GPU and TPU compilers have fast convolution kernels and get ``lax.conv_general_dilated``. On a CPU,
XLA convolves images several times faster than volumes, so a volume is convolved slice by slice,
once for each slice of the kernel, and the results are added. With a stride between slices, the
kernel meets only those that the outputs need.
"""

from functools import partial

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from lmf_jax.models.convolution import Padding, convolve

VolumeStride = tuple[int, int, int]
"""Step between neighboring outputs along slices, rows and columns, in voxels of the input."""
VolumePadding = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Zeros added to the slices (before, after), to the rows and to the columns."""


def convolve_volumes(
    volumes: Float[Array, "batch depth height width channels"],
    kernel: Float[Array, "kernel_depth kernel_height kernel_width channels features"],
    *,
    stride: VolumeStride = (1, 1, 1),
    padding: VolumePadding = ((0, 0), (0, 0), (0, 0)),
) -> Float[Array, "batch out_depth out_height out_width features"]:
    """Convolve each volume with a kernel, like ``lax.conv_general_dilated``.

    The form depends on the platform that the program is lowered for, not the one it is lowered on.
    On a CPU, reverse mode and forward over reverse work, forward mode alone does not.

    Args:
        volumes: Maps ``[batch, depth, height, width, channels]``.
        kernel: Weights ``[kernel_depth, kernel_height, kernel_width, channels, features]``.
        stride: Step between neighboring outputs; equal along rows and columns.
        padding: Zeros added around each map.

    Returns:
        Maps ``[batch, out_depth, out_height, out_width, features]`` in the dtype of ``volumes``.

    Raises:
        ValueError: If the kernel does not fit the channels, or rows and columns differ in stride.
    """
    if kernel.shape[3] != volumes.shape[-1]:
        raise ValueError(
            f"A kernel of shape {kernel.shape} does not fit {volumes.shape[-1]} channels; expected "
            f"[slices, rows, columns, {volumes.shape[-1]}, features]."
        )
    if stride[1] != stride[2]:
        raise ValueError(f"The stride is {stride}; expected the same along rows and columns.")
    by_compiler = partial(_compiler_form, stride=stride, padding=padding)
    on_cpu = partial(_sum_over_slices, stride=stride, padding=padding)
    return lax.platform_dependent(volumes, kernel, cpu=on_cpu, default=by_compiler)


def _compiler_form(
    volumes: Array, kernel: Array, *, stride: VolumeStride, padding: VolumePadding
) -> Array:
    """Convolve with the compiler's convolution."""
    return lax.conv_general_dilated(
        volumes,
        kernel,
        window_strides=stride,
        padding=padding,
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )


def _sum_over_slices(
    volumes: Array, kernel: Array, *, stride: VolumeStride, padding: VolumePadding
) -> Array:
    """Convolve as images with each slice of the kernel, and add the results."""
    (before, after), *in_plane = padding
    config = ((0, 0, 0), (before, after, 0), *((0, 0, 0),) * 3)
    padded = lax.pad(volumes, jnp.zeros((), volumes.dtype), config)
    last = padded.shape[1] - len(kernel)
    plane: Padding = (in_plane[0], in_plane[1])
    parts = [
        _convolve_slices(padded[:, first : first + last + 1 : stride[0]], weights, stride[1], plane)
        for first, weights in enumerate(kernel)
    ]
    return sum(parts[1:], start=parts[0])


def _convolve_slices(volumes: Array, weights: Array, stride: int, padding: Padding) -> Array:
    """Convolve each slice of the volumes as an image."""
    slices = volumes.reshape(-1, *volumes.shape[2:])
    images = convolve(slices, weights, stride=stride, padding=padding)
    return images.reshape(*volumes.shape[:2], *images.shape[1:])
