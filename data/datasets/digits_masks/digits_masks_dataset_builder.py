"""TFDS builder of digits_masks, drawn from scikit-learn's handwritten digits."""

import io
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float, UInt8

from data.formats.png import encode_png
from data.labels import WHOLE_IMAGE

MASK_CLASSES = ("background", "digit", "spot")
NUM_IMAGES = 800
SIDE = 64
"""Side of an image in pixels."""
ZOOM = 3
"""Factor by which digits are enlarged."""
INK = 6
"""Minimum intensity, of 16, of the pixels of a digit in the mask."""


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builder of digits_masks: digits and rare small spots on a noisy background.

    The digits are real handwriting; everything else is drawn from a fixed seed.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}

    def _info(self) -> tfds.core.DatasetInfo:
        mask = tfds.features.LabeledImage(
            labels=list(MASK_CLASSES), shape=(None, None, 1), encoding_format="png"
        )
        features = {
            "image": tfds.features.Image(shape=(SIDE, SIDE, 1), encoding_format="png"),
            "mask": mask,
            "label": tfds.features.ClassLabel(names=list(WHOLE_IMAGE)),
            "id": tfds.features.Text(),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            # The row numbers of a split are valid only in the order of generation.
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager  # nothing to download
        return {"full": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        from sklearn.datasets import load_digits  # takes a second

        digits = load_digits().images
        for row in range(NUM_IMAGES):
            image, mask = draw(digits, row)
            example = {
                "image": io.BytesIO(encode_png(image)),
                "mask": io.BytesIO(encode_png(mask)),
                "label": 0,
                "id": f"digits-{row + 1:03d}",
            }
            yield row, example


def draw(
    digits: Float[np.ndarray, "n 8 8"], row: int
) -> tuple[UInt8[np.ndarray, "side side"], UInt8[np.ndarray, "side side"]]:
    """Draw image number ``row`` and its mask.

    One to three digits lie on a background of slowly varying brightness, with noise over all; half
    of the images also have a spot of about ten pixels.

    Args:
        digits: Intensities 0..16 of all digits.
        row: Number of the image, the seed of its random numbers.
    """
    random = np.random.Generator(np.random.PCG64([0, row]))
    background = np.kron(random.integers(60, 160, (4, 4)), np.ones((SIDE // 4, SIDE // 4)))
    image, mask = _smooth(background), np.zeros((SIDE, SIDE), np.uint8)
    for number in random.integers(0, len(digits), random.integers(1, 4)):
        ink = np.kron(digits[number], np.ones((ZOOM, ZOOM)))
        top, left = random.integers(0, SIDE - len(ink) + 1, 2)
        place = np.s_[top : top + len(ink), left : left + len(ink)]
        image[place] += ink * random.uniform(2.5, 4)
        mask[place][ink >= INK] = MASK_CLASSES.index("digit")
    if random.random() < 0.5:
        y, x = random.uniform(4, SIDE - 4, 2)
        rows, columns = np.ogrid[:SIDE, :SIDE]
        spot = (rows - y) ** 2 + (columns - x) ** 2 <= random.uniform(1.5, 2.5) ** 2
        image[spot] -= random.uniform(45, 65)
        mask[spot] = MASK_CLASSES.index("spot")
    image += random.normal(0, 12, image.shape)
    return np.rint(image).clip(0, 255).astype(np.uint8), mask


def _smooth(image: Float[np.ndarray, "side side"]) -> Float[np.ndarray, "side side"]:
    """Average over squares of a quarter of the side, with the border repeated."""
    reach = SIDE // 8
    for axis in (0, 1):
        padding = [(reach, reach) if a == axis else (0, 0) for a in (0, 1)]
        padded = np.pad(image, padding, mode="edge")
        shifted = [np.roll(padded, shift, axis) for shift in range(-reach, reach + 1)]
        image = np.take(np.mean(shifted, axis=0), range(reach, reach + SIDE), axis)
    return image
