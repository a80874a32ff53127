"""Two-dimensional convolution, in the form that is fast on the platform it is compiled for.

GPU and TPU compilers have their own convolution kernels and get `lax.conv_general_dilated` as it
is. The CPU compiler has a good matrix product, a good convolution for large maps, and a slow loop
for everything else, so there the same sum is written in other ways.
"""

from jax import Array, lax
from jaxtyping import Float

Padding = tuple[tuple[int, int], tuple[int, int]]
"""Zeros added to the rows (top, bottom) and to the columns (left, right)."""


def convolve(
    images: Float[Array, "batch height width channels"],
    kernel: Float[Array, "kernel_height kernel_width group_channels features"],
    *,
    stride: int = 1,
    padding: Padding = ((0, 0), (0, 0)),
) -> Float[Array, "batch out_height out_width features"]:
    """Convolves each image with a kernel, like `lax.conv_general_dilated`.

    The platform is the one that the program is lowered for, so a program lowered on a CPU host for
    a TPU holds the TPU's form.

    Args:
        images: maps `[batch, height, width, channels]`.
        kernel: weights `[kernel_height, kernel_width, channels, features]`; with 1 in the place of
            `channels`, a depthwise convolution: each channel has its own `features / channels`
            filters.
        stride: step between neighbouring outputs, in pixels of the input, along both axes.
        padding: zeros added around each map.

    Returns:
        Maps `[batch, out_height, out_width, features]` in the dtype of `images`.
    """

    def direct(images: Array, kernel: Array) -> Array:
        return lax.conv_general_dilated(
            images,
            kernel,
            window_strides=(stride, stride),
            padding=padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=images.shape[-1] // kernel.shape[2],
        )

    return direct(images, kernel)
