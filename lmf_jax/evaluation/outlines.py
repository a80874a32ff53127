"""An image without axes, and the outline of an object in it."""

import numpy as np
from jaxtyping import Bool, UInt8
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from lmf_jax.evaluation.figures import INK


def draw_image(axes: Axes, image: UInt8[np.ndarray, "height width 3"]) -> None:
    """Draw an image alone, without ticks and frame."""
    axes.imshow(image)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def draw_outline(
    axes: Axes, mask: Bool[np.ndarray, "height width"], color: str, linestyle: str = "solid"
) -> None:
    """Draw the outline of a mask, which may be empty, over its image.

    Args:
        axes: where the image is drawn.
        mask: True inside of the object.
        color: of the line, light; it has a dark rim.
        linestyle: as Matplotlib names it.
    """
    if not mask.any():
        return
    # Padded, so that a mask that reaches the edge of the image is closed there.
    around = np.pad(mask.astype(float), 1)
    rows, columns = (np.arange(size) - 1 for size in around.shape)
    outline = axes.contour(
        columns, rows, around, levels=[0.5], colors=color, linewidths=1, linestyles=linestyle
    )
    # White on a dark edge is seen on skin, on heat and in grey print.
    outline.set_path_effects([withStroke(linewidth=2, foreground=INK)])
