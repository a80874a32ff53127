"""TFDS builder of digits_multilabel, drawn from scikit-learn's handwritten digits."""

import io
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float, Int, Int32, UInt8

from data.builders.label_vectors import label_features, stored_labels
from data.formats.png import encode_png

LABEL_NAMES = tuple(str(digit) for digit in range(10))
NUM_IMAGES = 800
SIDE = 48
"""Side of an image in pixels."""
ZOOM = 2
"""Factor by which digits are enlarged."""
IMBALANCE_RATIO = 20
"""Frequency of the digit 0 over that of the digit 9, if single digits were drawn."""


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builder of digits_multilabel: one to three different digits on a noisy background.

    The digits are real handwriting; everything else is drawn from a fixed seed.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(SIDE, SIDE, 1), encoding_format="png"),
            **label_features(LABEL_NAMES),
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

        digits = load_digits()
        for row in range(NUM_IMAGES):
            image, vector = draw(digits.images, digits.target, row)
            example = {
                "image": io.BytesIO(encode_png(image)),
                **stored_labels(vector),
                "id": f"digits-{row + 1:03d}",
            }
            yield row, example


def draw(
    digits: Float[np.ndarray, "n 8 8"], targets: Int[np.ndarray, " n"], row: int
) -> tuple[UInt8[np.ndarray, "side side"], Int32[np.ndarray, " labels"]]:
    """Draw image number ``row``, and return it with its label vector.

    One to three different digits lie in different quarters of the image, with noise over all. A
    digit d is drawn with a probability proportional to ``IMBALANCE_RATIO ** (-d / 9)``.

    Args:
        digits: Intensities 0..16 of all digits.
        targets: The digit of each.
        row: Number of the image, the seed of its random numbers.
    """
    random = np.random.Generator(np.random.PCG64([1, row]))
    frequencies = IMBALANCE_RATIO ** (-np.arange(10) / 9)
    count = random.integers(1, 4)
    drawn = random.choice(10, count, replace=False, p=frequencies / frequencies.sum())
    image = np.full((SIDE, SIDE), random.uniform(30, 70))
    half, side = SIDE // 2, digits.shape[1] * ZOOM
    for digit, quarter in zip(drawn, random.permutation(4)[:count], strict=True):
        ink = np.kron(digits[random.choice(np.flatnonzero(targets == digit))], np.ones((ZOOM,) * 2))
        top, left = random.integers(0, half - side + 1, 2) + half * np.array(divmod(quarter, 2))
        image[top : top + side, left : left + side] += ink * random.uniform(6, 10)
    image += random.normal(0, 12, image.shape)
    vector = np.zeros(10, np.int32)
    vector[drawn] = 1
    return np.rint(image).clip(0, 255).astype(np.uint8), vector
