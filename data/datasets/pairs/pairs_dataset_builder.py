"""TFDS builder of a folder of images and one of masks."""

from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from data.builders.image_folder import stem_of
from data.builders.masks import MaskBuilder
from data.datasets.pairs import labels
from data.datasets.pairs.joined_masks import join_masks
from data.formats.images import read_encoded
from data.formats.masks import read_mask
from data.formats.png import encode_png


class Builder(MaskBuilder):
    """Builder of pairs:IMAGES,MASKS."""

    files = labels

    @cached_property
    def mask_paths(self) -> dict[str, tuple[Path, ...]]:
        """Masks of every image that has one or several."""
        return labels.find_masks(self.raw, self.labels.ids.tolist())

    @cached_property
    def values(self) -> dict[str, list[int]]:
        """Values in every mask, by the name of its image; filled when masks are read."""
        return {}

    @cached_property
    def mask_classes(self) -> tuple[str, ...]:
        """Name of every class of pixels, derived from all masks together."""
        intact = [name for name in self.labels.ids.tolist() if name not in self.faults]
        return labels.mask_classes(self.raw, {name: self.values[name] for name in intact})

    def encoded_mask(self, name: str) -> bytes:
        """Return the bytes of the mask of an image; several masks are joined."""
        paths = self._paths_of(name)
        return read_encoded(paths[0]) if len(paths) == 1 else encode_png(self.read_mask(name))

    def read_mask(self, name: str) -> UInt8[np.ndarray, "height width"]:
        """Return the values of the mask of an image; all masks together define their meaning."""
        masks = []
        for path in self._paths_of(name):
            encoded = read_encoded(path)
            masks.append(read_mask(encoded))
            labels.check_jpeg(encoded, np.unique(masks[-1]).tolist())
        mask = join_masks(masks)
        self.values[name] = np.unique(mask).tolist()
        return mask

    def _paths_of(self, name: str) -> tuple[Path, ...]:
        return self.mask_paths.get(name, (self.raw.masks / f"{stem_of(Path(name))}.png",))
