"""Test-time augmentation: views of an image whose predictions are averaged."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Shaped

Tta = Literal["none", "flip", "dihedral"]


class View(NamedTuple):
    """A symmetry of the image plane: height and width are exchanged, then axes are mirrored.

    Attributes:
        transposed: Exchange height and width.
        upside_down: Mirror the height.
        mirrored: Mirror the width.
    """

    transposed: bool
    upside_down: bool
    mirrored: bool

    def apply(
        self, images: Shaped[np.ndarray, "*rest height width channels"]
    ) -> Shaped[np.ndarray, "*rest _ _ channels"]:
        """Return this view of images, or of the slices of volumes."""
        images = images.swapaxes(-3, -2) if self.transposed else images
        return np.ascontiguousarray(self._mirror(images))

    def undo(
        self, maps: Shaped[np.ndarray, "*rest height width channels"]
    ) -> Shaped[np.ndarray, "*rest _ _ channels"]:
        """Return maps of this view, such as probabilities, in the orientation of the image."""
        maps = self._mirror(maps)
        return maps.swapaxes(-3, -2) if self.transposed else maps

    def _mirror(self, images: np.ndarray) -> np.ndarray:
        if self.upside_down:
            images = np.flip(images, -3)
        return np.flip(images, -2) if self.mirrored else images


IDENTITY = View(transposed=False, upside_down=False, mirrored=False)

VIEWS: Mapping[Tta, Sequence[View]] = {
    "none": (IDENTITY,),
    "flip": (IDENTITY, View(transposed=False, upside_down=False, mirrored=True)),
    "dihedral": tuple(View(*flags) for flags in product((False, True), repeat=3)),
}
"""Views by the value of ``--tta``. flip: the image and its mirror image. dihedral: the eight
symmetries of a square."""
