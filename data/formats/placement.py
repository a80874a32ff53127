"""How images and masks are resized for a model, and how its masks and maps are put back."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer, UInt8
from PIL import Image

from lmf_jax.config import ImageSpec


@dataclass(frozen=True)
class Placement:
    """The part of an image that is used, and the part of the resized image that it fills.

    Pixel centers correspond: the same numbers resize an image and its mask, and put a mask of the
    model back onto the image.

    Attributes:
        spec: The resized image.
        size: Width and height of the image.
        box: The part that is used: left, top, right and bottom, in pixels of the image.
        window: The part that it fills: left, top, right and bottom, in pixels of the resized image.
    """

    spec: ImageSpec
    size: tuple[int, int]
    box: tuple[float, float, float, float]
    window: tuple[int, int, int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the resized image for a pixel of the image, along width and height."""
        left, top, right, bottom = self.window
        x0, y0, x1, y1 = self.box
        return (right - left) / (x1 - x0), (bottom - top) / (y1 - y0)

    def resize(self, image: Image.Image, resample: Image.Resampling) -> Image.Image:
        """Return an image or a mask, resized; the rest around the window is 0."""
        left, top, right, bottom = self.window
        filled = image.resize((right - left, bottom - top), resample, self.box)
        if filled.size == (self.spec.width, self.spec.height):
            return filled
        padded = Image.new(image.mode, (self.spec.width, self.spec.height))
        padded.paste(filled, (left, top))
        return padded

    def restore_mask(
        self, ids: Integer[np.ndarray, "height width"]
    ) -> UInt8[np.ndarray, "image_height image_width"]:
        """Return the class of every pixel of the image; outside of the box it is the background.

        Args:
            ids: Class of every pixel of the resized image, below 256.
        """
        filled = Image.fromarray(ids.astype(np.uint8)).crop(self.window)
        (x, y), (left, top) = self.scale, self.box[:2]
        to_filled = (x, 0, -left * x, 0, y, -top * y)
        restored = filled.transform(self.size, Image.Transform.AFFINE, to_filled)
        return np.asarray(restored)

    @property
    def frame(self) -> tuple[int, int, int, int]:
        """The resized image in pixels of the image: left, top, right and bottom, rounded.

        It has at least one pixel. It is larger than the image where this was padded, and smaller
        where it was cut.
        """
        (x, y), (left, top) = self.scale, self.box[:2]
        start = round(left - self.window[0] / x), round(top - self.window[1] / y)
        end = (
            round(left + (self.spec.width - self.window[0]) / x),
            round(top + (self.spec.height - self.window[1]) / y),
        )
        return (*start, max(end[0], start[0] + 1), max(end[1], start[1] + 1))

    def restore_map(
        self, values: Float[np.ndarray, "frame_height frame_width"]
    ) -> Float[np.ndarray, "image_height image_width"]:
        """Return a value for every pixel of the image, 0 outside of :attr:`frame`.

        Args:
            values: A value for every pixel of the frame.
        """
        (width, height), (left, top, right, bottom) = self.size, self.frame
        restored = np.zeros((height, width), values.dtype)
        rows = slice(max(top, 0), min(bottom, height))
        columns = slice(max(left, 0), min(right, width))
        restored[rows, columns] = values[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
        ]
        return restored


def place(spec: ImageSpec, size: tuple[int, int]) -> Placement:
    """Return how an image of a size is resized; see ``--resize``.

    Args:
        spec: The resized image.
        size: Width and height of the image, in pixels.
    """
    width, height = size
    whole, full = (0.0, 0.0, float(width), float(height)), (0, 0, spec.width, spec.height)
    scales = (spec.width / width, spec.height / height)
    if spec.resize == "pad":
        filled = [max(1, round(side * min(scales))) for side in size]
        left, top = (spec.width - filled[0]) // 2, (spec.height - filled[1]) // 2
        return Placement(spec, size, whole, (left, top, left + filled[0], top + filled[1]))
    if spec.resize == "crop":
        used = (
            min(spec.width / max(scales), width),
            min(spec.height / max(scales), height),
        )
        margins = (width - used[0]) / 2, (height - used[1]) / 2
        box = (*margins, margins[0] + used[0], margins[1] + used[1])
        return Placement(spec, size, box, full)
    return Placement(spec, size, whole, full)
