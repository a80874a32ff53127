"""Images and masks of a dataset, decoded and resized on every read."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import numpy as np
from jaxtyping import Int, UInt8

from data.formats.images import decode_image, reason
from data.formats.masks import decode_mask
from data.splits.dataset import SplitDataset
from data.splits.image_pairs import ABSENT, SIDES
from data.splits.segmentation import SegmentationDataset
from lmf_jax.config import ImageSpec
from lmf_jax.errors import UserError

AnyDataset = TypeVar("AnyDataset", bound=SplitDataset)


@dataclass(frozen=True, eq=False)
class Decoded(ABC, Generic[AnyDataset]):
    """Images or masks of a dataset, decoded and resized on every read.

    Attributes:
        dataset: The dataset.
        spec: Size of the result.
    """

    NOUN: ClassVar[str]

    dataset: AnyDataset
    spec: ImageSpec

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of the array of all images or masks, (n, height, width, ...)."""

    @abstractmethod
    def read(self, row: int) -> UInt8[np.ndarray, "height width ..."]:
        """Decode the image or mask of a row; raise any exception of Pillow."""

    def __getitem__(self, rows: Int[np.ndarray, " m"]) -> UInt8[np.ndarray, "m height width ..."]:
        """Return the images or masks of these rows, uint8.

        Raises:
            UserError: If a file cannot be read or decoded.
        """
        decoded = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for target, row in zip(decoded, rows.tolist(), strict=True):
            try:
                target[:] = self.read(row)
            except UserError:
                raise
            except Exception as error:  # Pillow raises exceptions of many types
                raise UserError(
                    f"{self.NOUN} {self.dataset.ids[row]} of {self.dataset.name} cannot be decoded "
                    f"({reason(error)}); replace the file or remove it from the dataset."
                ) from error
        return decoded


class DecodedImages(Decoded[SplitDataset]):
    """RGB or gray images of a dataset."""

    NOUN: ClassVar[str] = "Image"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array of all images or volumes, (n, *space, channels)."""
        return (len(self.dataset.ids), *self.spec.shape)

    def read(self, row: int) -> UInt8[np.ndarray, "*space channels"]:
        """Decode the image of a row; see :func:`data.formats.images.decode_image`."""
        return decode_image(self.dataset.source[row], self.spec, self.dataset.intensity_range)


class DecodedPairs(DecodedImages):
    """The two images of each pair side by side; an absent one is black."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the array of all pairs, (n, height, 2 * width, channels)."""
        height, width, channels = self.spec.shape
        return (len(self.dataset.ids), height, SIDES * width, channels)

    def read(self, row: int) -> UInt8[np.ndarray, "height two_width channels"]:
        """Decode both images of a pair."""
        assert self.dataset.pairs is not None
        absent = np.zeros(self.spec.shape, np.uint8)
        rows = self.dataset.pairs.rows[row].tolist()
        read_image = super().read
        sides = [absent if image == ABSENT else read_image(image) for image in rows]
        return np.concatenate(sides, axis=1)


def decoded_images(dataset: SplitDataset, spec: ImageSpec) -> DecodedImages:
    """Return the images or pairs of images of a dataset, decoded on every read.

    Args:
        dataset: The dataset.
        spec: Size of one image.
    """
    kind = DecodedImages if dataset.pairs is None else DecodedPairs
    return kind(dataset, spec)


class DecodedMasks(Decoded[SegmentationDataset]):
    """Masks of a dataset as class ids."""

    NOUN: ClassVar[str] = "Mask"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the array of all masks, (n, height, width)."""
        return (len(self.dataset.ids), *self.spec.size)

    def read(self, row: int) -> UInt8[np.ndarray, "height width"]:
        """Decode the mask of a row; see :func:`data.formats.masks.decode_mask`."""
        return decode_mask(self.dataset.masks[row], self.spec, len(self.dataset.class_names))
