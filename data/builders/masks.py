"""TFDS builders of datasets with a mask for every image."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from data.builders.images import ImageFilesBuilder, RawFiles
from data.file_names import on_disk
from data.formats.image_file import read_image_file
from data.formats.images import read_encoded, reason
from data.formats.masks import class_ids, read_mask


class MaskBuilder(ImageFilesBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Builder that stores the labels and the encoded images and masks of raw files, in order.

    A subclass defines the classes of the pixels and the paths of the masks.
    """

    FAULTS: ClassVar[str] = "or their masks are missing, cannot be decoded or differ in size"

    @property
    def mask_classes(self) -> tuple[str, ...]:
        """Name of every class of pixels, the background first."""
        raise NotImplementedError

    def mask_path(self, name: str) -> Path:
        """Return the path of the mask of an image."""
        raise NotImplementedError

    def encoded_mask(self, name: str) -> bytes:
        """Return the bytes of the mask of an image."""
        return read_encoded(self.mask_path(name))

    def read_mask(self, name: str) -> UInt8[np.ndarray, "height width"]:
        """Return a decoded mask; raise an exception if it has other classes."""
        return class_ids(read_mask(read_encoded(self.mask_path(name))), len(self.mask_classes))

    def targets(self) -> dict[str, tuple[Any, Iterable[Any]]]:
        """Return the masks with their TFDS feature."""
        feature = tfds.features.LabeledImage(
            labels=list(self.mask_classes), shape=(None, None, 1), encoding_format="png"
        )
        return {"mask": (feature, map(io.BytesIO, self._encoded_masks()))}

    def _encoded_masks(self) -> Iterator[bytes]:
        for name in self.labels.without(self.skipped).ids.tolist():
            yield self.encoded_mask(name)

    def find_fault(self, name: str) -> str | None:
        """Return why an image or its mask is broken, in a few words, or None if neither is."""
        checked = "image"
        try:
            encoded = read_image_file(self.image_path(name))
            width, height = self.counts.decode(encoded).size
            checked = "mask"
            mask = self.read_mask(name)
        except FileNotFoundError:
            return f"the {checked} is missing"
        except Exception as error:  # Pillow raises exceptions of many types
            return f"the {checked} cannot be decoded, {reason(error)}"
        if mask.shape == (height, width):
            return None
        return f"the mask has {mask.shape[1]}x{mask.shape[0]} pixels, the image {width}x{height}"


class MaskFiles(RawFiles, Protocol):
    """Functions of a dataset with one mask per image."""

    MASK_CLASSES: tuple[str, ...]
    """Name of every class of pixels, the background first."""

    def mask_path(self, raw: Any, name: str) -> Path:
        """Return the path of the mask of an image."""


class MaskFilesBuilder(MaskBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Builder of a download with one mask per image.

    Attributes:
        files: Module with the functions of the dataset.
    """

    files: MaskFiles

    @property
    def mask_classes(self) -> tuple[str, ...]:
        """Name of every class of pixels, the background first."""
        return self.files.MASK_CLASSES

    def mask_path(self, name: str) -> Path:
        """Return the path of the mask of an image."""
        return on_disk(self.files.mask_path(self.raw, name))
