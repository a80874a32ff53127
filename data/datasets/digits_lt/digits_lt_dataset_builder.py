"""TFDS builder of scikit-learn's handwritten digits."""

import io
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float

from data.formats.png import encode_png

MAX_INTENSITY = 16
"""Largest pixel value of the source."""


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builder of digits_lt: 1,797 grayscale images of 8x8 pixels in ten classes."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
                    "id": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
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
        for row, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            example = {
                "image": io.BytesIO(encode_digit(pixels)),
                "label": int(label),
                "id": f"digit-{row + 1:04d}",
            }
            yield row, example


def encode_digit(pixels: Float[np.ndarray, "height width"]) -> bytes:
    """Encode one image of intensities 0..16 as a grayscale PNG of 0..255, without loss.

    Args:
        pixels: Intensities, [height, width].

    Returns:
        The PNG file; see :func:`data.formats.png.encode_png`.
    """
    return encode_png(np.rint(pixels * (255 / MAX_INTENSITY)).astype(np.uint8))
