"""Images and masks of a dataset, decoded and resized on every read."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import numpy as np
from jaxtyping import Int, UInt8

from data.formats.images import decode_image, reason
from data.formats.masks import decode_mask
from data.splits.dataset import SplitDataset
from data.splits.segmentation import SegmentationDataset
from lmf_jax.errors import UserError

AnyDataset = TypeVar("AnyDataset", bound=SplitDataset)


@dataclass(frozen=True, eq=False)
class Decoded(ABC, Generic[AnyDataset]):
    """The pictures of a dataset, decoded and resized anew whenever they are read.

    Attributes:
        dataset: The dataset.
        image_size: Height and width of the pictures, in pixels.
    """

    NOUN: ClassVar[str]

    dataset: AnyDataset
    image_size: int

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of all pictures together, (n, image_size, image_size, ...)."""

    @abstractmethod
    def encoded(self, row: int) -> bytes:
        """Return the bytes of the file of this row."""

    @abstractmethod
    def decode(self, encoded: bytes) -> UInt8[np.ndarray, "height width ..."]:
        """Decode one file; raises whatever Pillow does."""

    def __getitem__(self, rows: Int[np.ndarray, " m"]) -> UInt8[np.ndarray, "m height width ..."]:
        """Return the pictures of these rows, uint8.

        Raises:
            UserError: If one cannot be read or decoded.
        """
        pictures = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for picture, row in zip(pictures, rows.tolist(), strict=True):
            encoded = self.encoded(row)
            try:
                picture[:] = self.decode(encoded)
            except Exception as error:  # Pillow's formats raise nearly everything
                raise UserError(
                    f"{self.NOUN} {self.dataset.ids[row]} of {self.dataset.name} cannot be decoded "
                    f"({reason(error)}); replace the file or take it out of the dataset."
                ) from error
        return pictures


class DecodedImages(Decoded[SplitDataset]):
    """The images of a dataset, RGB."""

    NOUN: ClassVar[str] = "Image"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of all images together, (n, image_size, image_size, 3)."""
        return (len(self.dataset.ids), self.image_size, self.image_size, 3)

    def encoded(self, row: int) -> bytes:
        """Return the bytes of the image of this row."""
        return self.dataset.source[row]

    def decode(self, encoded: bytes) -> UInt8[np.ndarray, "height width 3"]:
        """Decode one image, see :func:`decode_image`."""
        return decode_image(encoded, self.image_size, self.dataset.intensity_range)


class DecodedMasks(Decoded[SegmentationDataset]):
    """The masks of a dataset, as class ids."""

    NOUN: ClassVar[str] = "Mask"

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of all masks together, (n, image_size, image_size)."""
        return (len(self.dataset.ids), self.image_size, self.image_size)

    def encoded(self, row: int) -> bytes:
        """Return the bytes of the mask of this row."""
        return self.dataset.masks[row]

    def decode(self, encoded: bytes) -> UInt8[np.ndarray, "height width"]:
        """Decode one mask, see :func:`decode_mask`."""
        return decode_mask(encoded, self.image_size, len(self.dataset.class_names))
