"""Draw images without axes, and outlines of objects in them."""

import numpy as np
from jaxtyping import Bool, UInt8
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from lmf_jax.evaluation.figures import INK


def draw_image(axes: Axes, image: UInt8[np.ndarray, "height width 3"]) -> None:
    """Draw an image without ticks and frame."""
    axes.imshow(image)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def draw_outline(
    axes: Axes, mask: Bool[np.ndarray, "height width"], color: str, linestyle: str = "solid"
) -> None:
    """Draw the outline of a mask, which may be empty, over its image.

    Args:
        axes: Axes that the image is drawn in.
        mask: True inside the object.
        color: Light color of the line, which gets a dark edge.
        linestyle: Matplotlib line style.
    """
    if not mask.any():
        return
    # Padding closes the outline of a mask that reaches the edge of the image.
    padded = np.pad(mask.astype(float), 1)
    rows, columns = (np.arange(size) - 1 for size in padded.shape)
    outline = axes.contour(
        columns, rows, padded, levels=[0.5], colors=color, linewidths=1, linestyles=linestyle
    )
    # A light line with a dark edge is visible on skin, on heat and in grayscale print.
    outline.set_path_effects([withStroke(linewidth=2, foreground=INK)])
