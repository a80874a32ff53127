"""The builders of all datasets that have a mask, a class for every pixel, for each image."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from data.builders.images import ImageFilesBuilder, RawFiles
from data.file_names import on_disk
from data.formats.images import read_encoded, reason
from data.formats.masks import class_ids, read_mask


class MaskBuilder(ImageFilesBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Keeps the labels and the encoded images and masks of raw files, in their order.

    A subclass says which classes the pixels have and where the masks lie.
    """

    FAULTS: ClassVar[str] = "or their masks are missing, cannot be decoded or differ in size"

    @property
    def mask_classes(self) -> tuple[str, ...]:
        """Name of every class of pixels, the background first."""
        raise NotImplementedError

    def mask_path(self, name: str) -> Path:
        """Return where the mask of the image of this name lies."""
        raise NotImplementedError

    def encoded_mask(self, name: str) -> bytes:
        """Return the bytes of the mask of the image of this name."""
        return read_encoded(self.mask_path(name))

    def read_mask(self, name: str) -> UInt8[np.ndarray, "height width"]:
        """Return a decoded mask; raises an exception if it is none of these classes."""
        return class_ids(read_mask(read_encoded(self.mask_path(name))), len(self.mask_classes))

    def targets(self) -> dict[str, tuple[Any, Iterable[Any]]]:
        """Return the masks and their feature."""
        feature = tfds.features.LabeledImage(
            labels=list(self.mask_classes), shape=(None, None, 1), encoding_format="png"
        )
        return {"mask": (feature, map(io.BytesIO, self._encoded_masks()))}

    def _encoded_masks(self) -> Iterator[bytes]:
        for name in self.labels.without(self.skipped).ids.tolist():
            yield self.encoded_mask(name)

    def find_fault(self, name: str) -> str | None:
        """Return what is wrong with an image or its mask, in few words; None for nothing."""
        checked = "image"
        try:
            encoded = read_encoded(self.image_path(name))
            width, height = self.counts.decode(encoded).size
            checked = "mask"
            mask = self.read_mask(name)
        except FileNotFoundError:
            return f"the {checked} is missing"
        except Exception as error:  # Pillow's formats raise nearly everything
            return f"the {checked} cannot be decoded, {reason(error)}"
        if mask.shape == (height, width):
            return None
        return f"the mask has {mask.shape[1]}x{mask.shape[0]} pixels, the image {width}x{height}"


class MaskFiles(RawFiles, Protocol):
    """What ``data/<name>/labels.py`` says of a dataset that has a mask for every image."""

    MASK_CLASSES: tuple[str, ...]
    """Name of every class of pixels, the background first."""

    def mask_path(self, raw: Any, name: str) -> Path:
        """Return where the mask of the image of this name lies."""


class MaskFilesBuilder(MaskBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Builder of a download that has a mask for every image.

    Attributes:
        files: The module ``data.<name>.labels``.
    """

    files: MaskFiles

    @property
    def mask_classes(self) -> tuple[str, ...]:
        """Name of every class of pixels, the background first."""
        return self.files.MASK_CLASSES

    def mask_path(self, name: str) -> Path:
        """Return where the mask of the image of this name lies."""
        return on_disk(self.files.mask_path(self.raw, name))
