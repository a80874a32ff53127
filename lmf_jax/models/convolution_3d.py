"""Three-dimensional convolution, in the form that is fastest on the platform it is compiled for.

GPU and TPU compilers have fast convolution kernels and get ``lax.conv_general_dilated``. On a CPU,
XLA convolves images several times faster than volumes, so a volume is convolved slice by slice,
once for each slice of the kernel, and the results are added.
"""

from functools import partial

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from lmf_jax.models.convolution import Padding, convolve

VolumePadding = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Zeros added to the slices (before, after), to the rows and to the columns."""


def convolve_volumes(
    volumes: Float[Array, "batch depth height width channels"],
    kernel: Float[Array, "kernel_depth kernel_height kernel_width channels features"],
    *,
    padding: VolumePadding = ((0, 0), (0, 0), (0, 0)),
) -> Float[Array, "batch out_depth out_height out_width features"]:
    """Convolve each volume with a kernel, like ``lax.conv_general_dilated``, at stride 1.

    The form depends on the platform that the program is lowered for, not the one it is lowered on.
    On a CPU, reverse mode and forward over reverse work, forward mode alone does not.

    Args:
        volumes: Maps ``[batch, depth, height, width, channels]``.
        kernel: Weights ``[kernel_depth, kernel_height, kernel_width, channels, features]``.
        padding: Zeros added around each map.

    Returns:
        Maps ``[batch, out_depth, out_height, out_width, features]`` in the dtype of ``volumes``.

    Raises:
        ValueError: If the kernel does not fit the channels.
    """
    if kernel.shape[3] != volumes.shape[-1]:
        raise ValueError(
            f"A kernel of shape {kernel.shape} does not fit {volumes.shape[-1]} channels; expected "
            f"[slices, rows, columns, {volumes.shape[-1]}, features]."
        )
    by_compiler = partial(_compiler_form, padding=padding)
    on_cpu = partial(_sum_over_slices, padding=padding)
    return lax.platform_dependent(volumes, kernel, cpu=on_cpu, default=by_compiler)


def _compiler_form(volumes: Array, kernel: Array, *, padding: VolumePadding) -> Array:
    """Convolve with the compiler's convolution."""
    return lax.conv_general_dilated(
        volumes,
        kernel,
        window_strides=(1, 1, 1),
        padding=padding,
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )


def _sum_over_slices(volumes: Array, kernel: Array, *, padding: VolumePadding) -> Array:
    """Convolve as images with each slice of the kernel, and add the results."""
    (before, after), *in_plane = padding
    config = ((0, 0, 0), (before, after, 0), *((0, 0, 0),) * 3)
    padded = lax.pad(volumes, jnp.zeros((), volumes.dtype), config)
    depth = padded.shape[1] - len(kernel) + 1
    plane: Padding = (in_plane[0], in_plane[1])
    parts = [
        _convolve_slices(padded[:, first : first + depth], weights, plane)
        for first, weights in enumerate(kernel)
    ]
    return sum(parts[1:], start=parts[0])


def _convolve_slices(volumes: Array, weights: Array, padding: Padding) -> Array:
    """Convolve each slice of the volumes as an image."""
    images = convolve(volumes.reshape(-1, *volumes.shape[2:]), weights, padding=padding)
    return images.reshape(*volumes.shape[:2], *images.shape[1:])
