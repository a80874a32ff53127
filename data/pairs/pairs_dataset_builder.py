"""Prepares a folder of images and one of masks as ArrayRecord."""

from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from data.decoding import read_encoded
from data.mask_decoding import read_mask
from data.pairs import labels
from data.raw_masks import MaskBuilder


class Builder(MaskBuilder):
    """Builder of pairs:IMAGES,MASKS."""

    files = labels

    @cached_property
    def mask_paths(self) -> dict[str, Path]:
        """The mask of every image that has one."""
        return labels.find_masks(self.raw, self.labels.ids.tolist())

    @cached_property
    def values(self) -> dict[str, list[int]]:
        """The values in every mask, by the name of its image; filled as masks are read."""
        return {}

    @cached_property
    def mask_classes(self) -> tuple[str, ...]:
        """Name of every class of pixels, as all masks together say."""
        whole = [name for name in self.labels.ids.tolist() if name not in self.faults]
        return labels.mask_classes(self.raw, {name: self.values[name] for name in whole})

    def mask_path(self, name: str) -> Path:
        """Returns where the mask of the image of this name lies."""
        return self.mask_paths.get(name, self.raw.masks / f"{Path(name).stem}.png")

    def read_mask(self, name: str) -> UInt8[np.ndarray, "height width"]:
        """Returns the values of a mask; what they mean is said by all together."""
        encoded = read_encoded(self.mask_path(name))
        mask = read_mask(encoded)
        self.values[name] = np.unique(mask).tolist()
        labels.check_jpeg(encoded, self.values[name])
        return mask
