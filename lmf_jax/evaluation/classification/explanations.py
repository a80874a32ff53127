"""Figures of explanations: images overlaid with the heat of a class, one column per model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib import colormaps, style
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from lmf_jax.evaluation.figures import INK, MUTED, STYLE, VERMILION, WIDTH, wrap
from lmf_jax.evaluation.outlines import draw_image, draw_outline

MAX_OPACITY = 0.7
"""Opacity of the largest heat; the image remains visible below it."""


def _heat_colors() -> ListedColormap:
    """Return viridis, which is perceptually uniform, from transparent to opaque."""
    colors = colormaps["viridis"](np.linspace(0, 1, 256))
    colors[:, 3] = np.linspace(0, MAX_OPACITY, 256)
    return ListedColormap(colors, name="heat")


HEAT = _heat_colors()


@dataclass(frozen=True)
class Explanation:
    """Explanation of one class in one image by a model.

    Attributes:
        heat: Heat relative to its maximum ``[height, width]``, in the size of the image.
        class_name: The explained class.
        probability: Predicted probability of this class, in [0, 1].
        image: RGB ``[height, width, 3]`` below the heat, such as the slice of a volume; None for
            that of the row.
    """

    heat: Float[np.ndarray, "height width"]
    class_name: str
    probability: float
    image: UInt8[np.ndarray, "height width 3"] | None = None


@dataclass(frozen=True)
class ExplainedImage:
    """An image with its explanations by one or several models: a row of the figure.

    Attributes:
        name: Name of the image.
        image: RGB ``[height, width, 3]``.
        explanations: Explanations by the title of their column; all images of a figure have the
            same columns.
        true_class: Name of the true class; None if unknown.
        mask: Region of interest, such as a lesion, ``[height, width]``; None if unknown.
    """

    name: str
    image: UInt8[np.ndarray, "height width 3"]
    explanations: Mapping[str, Explanation]
    true_class: str | None = None
    mask: Bool[np.ndarray, "height width"] | None = None


def overlay(
    image: UInt8[np.ndarray, "height width 3"], heat: Float[np.ndarray, "height width"]
) -> UInt8[np.ndarray, "height width 3"]:
    """Overlay heat on an image; larger heat is more opaque and brighter.

    Args:
        image: RGB ``[height, width, 3]``.
        heat: Values in [0, 1], ``[height, width]``.

    Returns:
        RGB ``[height, width, 3]``; pixels without heat are unchanged.

    Raises:
        ValueError: If heat and image differ in size.
    """
    if heat.shape != image.shape[:2]:
        raise ValueError(
            f"heat has shape {heat.shape} and image {image.shape}; expected one value for each "
            "pixel, so resize the heat."
        )
    colors = HEAT(heat)
    opacity = colors[..., 3:]
    blended = opacity * 255 * colors[..., :3] + (1 - opacity) * image
    return np.rint(blended).astype(np.uint8)


@style.context(STYLE)
def draw_explanations(examples: Sequence[ExplainedImage]) -> Figure:
    """Draw a row for each image: the image, then each of its explanations.

    The columns may be several models, as in Fig. 3 of Sadi et al., or the predicted and the true
    class of one model. All pictures show the outline of the mask, if there is one. The name of a
    wrong class is vermilion and has a cross, for grayscale print.

    Args:
        examples: The images, at least one, all with the same columns.

    Returns:
        The figure, whose size grows with the number of images and columns.

    Raises:
        ValueError: If there is no image, or the columns of two images differ.
    """
    columns = _columns(examples)
    side = max(WIDTH / (1 + len(columns)), 1.25)
    figure = Figure(figsize=((1 + len(columns)) * side, 0.9 + len(examples) * (side + 0.3)))
    grid = figure.subplots(len(examples), 1 + len(columns), squeeze=False).tolist()
    letters = int(side / 0.08)  # Characters that fit above a picture.
    for row, example in zip(grid, examples, strict=True):
        _draw_picture(row[0], example.image, example.mask)
        row[0].set_title(_wrapped(example.true_class or "", letters), fontsize=8)
        row[0].set_ylabel(_wrapped(example.name, letters), color=MUTED, fontsize=7)
        for axes, column in zip(row[1:], columns, strict=True):
            _draw_explanation(axes, example, example.explanations[column], letters)
    _write_heads(grid[0], [_wrapped(column, letters) for column in ("image", *columns)])
    _add_scale(figure)
    return figure


def _columns(examples: Sequence[ExplainedImage]) -> list[str]:
    if not examples:
        raise ValueError("There is no image to draw; expected at least one.")
    columns = list(examples[0].explanations)
    for example in examples:
        if list(example.explanations) != columns:
            raise ValueError(
                f"Image {example.name} is explained in the columns "
                f"{', '.join(example.explanations)} and the first in {', '.join(columns)}; "
                "expected the same."
            )
    return columns


def _draw_explanation(
    axes: Axes, example: ExplainedImage, explanation: Explanation, letters: int
) -> None:
    image = example.image if explanation.image is None else explanation.image
    _draw_picture(axes, overlay(image, explanation.heat), example.mask)
    is_wrong = example.true_class not in (None, explanation.class_name)
    number = f" {explanation.probability:.2f}"
    name = ("✗ " if is_wrong else "") + explanation.class_name
    title = _wrapped(name, letters - len(number)) + number
    axes.set_title(title, fontsize=8, color=VERMILION if is_wrong else INK)


def _draw_picture(
    axes: Axes,
    image: UInt8[np.ndarray, "height width 3"],
    mask: Bool[np.ndarray, "height width"] | None,
) -> None:
    draw_image(axes, image)
    if mask is not None:
        draw_outline(axes, mask, "white")


def _write_heads(first_row: Sequence[Axes], heads: Sequence[str]) -> None:
    """Write the heads of the columns at one height, above the titles of the first pictures."""
    lines = max(axes.get_title().count("\n") + 1 for axes in first_row)
    for axes, head in zip(first_row, heads, strict=True):
        axes.annotate(
            head,
            xy=(0.5, 1),
            xycoords="axes fraction",
            xytext=(0, 8 + 10 * lines),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontweight="bold",
            fontsize=9,
        )


def _add_scale(figure: Figure) -> None:
    # A color bar ignores opacity; blending with white gives the colors over the brightest image.
    colors = HEAT(np.linspace(0, 1, 256))
    opacity = colors[:, 3:]
    on_white = ListedColormap(opacity * colors[:, :3] + 1 - opacity)
    width, height = figure.get_size_inches()
    fraction, thickness = 0.6, 0.12  # Fraction of the figure's width; inches.
    bar = figure.colorbar(
        ScalarMappable(cmap=on_white),
        ax=figure.axes,
        location="bottom",
        fraction=thickness / height,
        pad=thickness / height,
        aspect=fraction * width / thickness,
        shrink=fraction,
        ticks=[0, 0.5, 1],
        format="%g",
    )
    bar.ax.tick_params(labelsize=8)
    bar.set_label("Heat relative to the maximum in the image", fontsize=8)
    bar.outline.set_visible(False)


def _wrapped(text: str, width: int) -> str:
    """Wrap long text into two lines, and truncate the rest."""
    return wrap(text, max(width, 4), lines=2)
