"""Inputs of a segmentation run, of images or of volumes: batches and the cases of a test."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int, Int64, Shaped

from data.batches.image_cache import Images, Masks, open_images, open_masks, pixel_counts
from data.batches.patches import patch_batches, volume_cases
from data.batches.pipeline import EvaluationBatches, evaluation_batches, train_batches
from data.batches.stream import Stream
from data.batches.tiles import TileBatches, num_tiles, tile_batches
from data.registry import has_volumes
from data.shard import Shard
from data.splits.folds import selected_fold
from data.splits.segmentation import SegmentationDataset, load_segmentation_dataset
from data.splits.volumes import VolumeDataset, load_volumes
from lmf_jax.config import Config, ResolvedConfig
from lmf_jax.errors import UserError


def open_segmentation(
    dataset: SegmentationDataset | VolumeDataset,
    config: ResolvedConfig,
    shard: Shard | None = None,
) -> "ImageInputs | VolumeInputs":
    """Open the images and masks, or the volumes, that a run reads.

    Args:
        dataset: From :func:`load_for_segmentation`.
        config: All settings.
        shard: The part of each batch that this process reads (default: all of it).

    Raises:
        UserError: If an image or a mask cannot be decoded, or ``data_dir`` cannot be written.
    """
    shard = shard or Shard()
    if isinstance(dataset, VolumeDataset):
        return VolumeInputs(dataset, config, shard, len(dataset.modalities))
    data = config.data
    images = open_images(dataset, data.image_spec, cache=data.cache, data_dir=data.data_dir)
    masks = open_masks(dataset, data.image_spec, cache=data.cache, data_dir=data.data_dir)
    return ImageInputs(dataset, config, shard, images, masks)


def load_for_segmentation(
    config: Config, fingerprint: str | None = None
) -> SegmentationDataset | VolumeDataset:
    """Open the dataset of a segmentation run and split it.

    Args:
        config: All settings, resolved or not.
        fingerprint: The recorded fingerprint of a run to resume.

    Raises:
        UserError: If there is no such dataset or split, or a setting does not fit the dataset.
    """
    data, name = config.data, config.dataset_name
    fold = selected_fold(data.folds, data.fold)
    if has_volumes(name):
        volumes = load_volumes(
            name,
            data_dir=data.data_dir,
            split=data.split,
            split_seed=data.split_seed,
            fold=fold,
        )
        return volumes if data.where is None else volumes.select("train", data.where)
    if data.patch_size is not None:
        raise UserError(f"--patch-size is for volumes, and {name} has images; give --image-size.")
    return load_segmentation_dataset(
        name,
        data_dir=data.data_dir,
        split=data.split,
        split_seed=data.split_seed,
        fingerprint=fingerprint,
        where=data.where,
        fold=fold,
    )


@dataclass(frozen=True, eq=False)
class ImageInputs:
    """The images and masks of a run.

    Attributes:
        dataset: The dataset with its split.
        config: All settings.
        shard: The part of each batch that this process reads.
        images: All images.
        masks: All masks.
    """

    dataset: SegmentationDataset
    config: ResolvedConfig
    shard: Shard
    images: Images
    masks: Masks

    @property
    def num_channels(self) -> int:
        """Channels of an image."""
        return self.config.data.channels

    @cached_property  # counting the pixels reads every mask
    def description(self) -> dict[str, Any]:
        """Record of the data in ``config.json``, JSON-serializable."""
        return _description(self)

    def class_counts(self, part: str) -> Int64[np.ndarray, " classes"]:
        """Return how many pixels of each class a part has.

        Args:
            part: "train", "validation" or "test".
        """
        rows, num_classes = self.dataset.rows[part], len(self.dataset.class_names)
        return pixel_counts(self.masks, rows, num_classes)

    @property
    def num_examples(self) -> int:
        """Images that an epoch goes through."""
        return len(self.dataset.rows["train"])

    def training(self) -> Stream[Any]:
        """Return the endless stream of training batches."""
        return train_batches(
            self.images,
            self.masks,
            self.dataset.rows["train"],
            batch_size=self.config.training.batch_size,
            seed=self.config.training.seed,
            **vars(self.shard),
        )

    def validation(self) -> EvaluationBatches:
        """Return the batches that cover every validation image."""
        return self.batches(self.dataset.rows["validation"])

    def cases(self, part: str) -> "ImageCases":
        """Return this process's the images of a part.

        Args:
            part: "train", "validation" or "test".
        """
        rows = self.dataset.rows[part]
        return ImageCases(self, rows, self.dataset.ids[rows], self.dataset.groups_of(part))

    def batches(self, rows: Int[np.ndarray, " n"]) -> EvaluationBatches:
        """Return the batches that cover every one of these rows."""
        return evaluation_batches(
            self.images,
            self.masks,
            rows,
            batch_size=self.config.training.batch_size,
            **vars(self.shard),
        )


@dataclass(frozen=True, eq=False)
class ImageCases:
    """The images of a part, each a case.

    Attributes:
        inputs: The inputs they belong to.
        rows: Their row numbers, [n].
        ids: Their names, unicode [n].
        groups: Patient or lesion of each [n]; None where none is known.
        spacing: None: the size of their pixels is not known.
    """

    inputs: ImageInputs
    rows: Int[np.ndarray, " n"]
    ids: Shaped[np.ndarray, " n"]
    groups: Shaped[np.ndarray, " n"] | None
    spacing: None = None

    def __iter__(self) -> Iterator[tuple[Int[np.ndarray, " b"], np.ndarray, np.ndarray]]:
        """Yield indices, images uint8 [b, h, w, 3] and labels; indices of -1 are padding."""
        batches = self.inputs.batches(self.rows)
        for number, batch in enumerate(batches):
            start = number * batches.batch_size + batches.block_start
            indices = np.arange(start, start + batches.block_size)
            yield np.where(batch["mask"], indices, -1), batch["image"], batch["label"]

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the image and the labels of one case."""
        row = self.rows[[index]]
        return self.inputs.images[row][0], self.inputs.masks[row][0]


@dataclass(frozen=True, eq=False)
class VolumeInputs:
    """The volumes of a run.

    Attributes:
        dataset: The dataset with its split.
        config: All settings.
        shard: The part of each batch that this process reads.
        num_channels: Modalities of a volume.
    """

    dataset: VolumeDataset
    config: ResolvedConfig
    shard: Shard
    num_channels: int

    @cached_property  # counting the pixels reads every mask
    def description(self) -> dict[str, Any]:
        """Record of the data in ``config.json``, JSON-serializable."""
        return _description(self)

    def class_counts(self, part: str) -> Int64[np.ndarray, " classes"]:
        """Return how many voxels of each class a part has.

        Args:
            part: "train", "validation" or "test".
        """
        return self.dataset.voxel_counts(part)

    @property
    def num_examples(self) -> int:
        """As many patches as would cover the training cases once."""
        return num_tiles(self.dataset, self.dataset.rows["train"], self._patch_size)

    def training(self) -> Stream[Any]:
        """Return the endless stream of training batches."""
        return patch_batches(
            self.dataset,
            self.dataset.rows["train"],
            patch_size=self._patch_size,
            batch_size=self.config.training.batch_size,
            seed=self.config.training.seed,
            foreground_share=self.config.data.foreground_share,
            **vars(self.shard),
        )

    def validation(self) -> TileBatches:
        """Return the batches of patches that cover every validation volume."""
        return tile_batches(
            self.dataset,
            self.dataset.rows["validation"],
            patch_size=self._patch_size,
            batch_size=self.config.training.batch_size,
            **vars(self.shard),
        )

    def cases(self, part: str) -> "VolumeCases":
        """Return this process's the volumes of a part.

        Args:
            part: "train", "validation" or "test".
        """
        rows = self.dataset.rows[part]
        groups, spacing = self.dataset.groups_of(part), self.dataset.spacing
        return VolumeCases(self, rows, self.dataset.ids[rows], groups, spacing)

    @property
    def _patch_size(self) -> tuple[int, int, int]:
        assert self.config.data.patch_size is not None  # every dataset of volumes brings one
        return self.config.data.patch_size


@dataclass(frozen=True, eq=False)
class VolumeCases:
    """The volumes of a part, each a case.

    Attributes:
        inputs: The inputs they belong to.
        rows: Their row numbers, [n].
        ids: Their names, unicode [n].
        groups: Patient of each, [n].
        spacing: Edges of a voxel along z, y, x, in mm.
    """

    inputs: VolumeInputs
    rows: Int[np.ndarray, " n"]
    ids: Shaped[np.ndarray, " n"]
    groups: Shaped[np.ndarray, " n"]
    spacing: tuple[float, float, float]

    def __iter__(self) -> Iterator[tuple[Int[np.ndarray, " 1"], np.ndarray, np.ndarray]]:
        """Yield index, image float32 [1, d, h, w, M] and labels of one case after the other."""
        shard = self.inputs.shard
        indices = range(shard.process_index, len(self.rows), shard.process_count)
        cases = volume_cases(self.inputs.dataset, self.rows, **vars(shard))
        for index, (_, volume) in zip(indices, cases, strict=True):
            yield np.array([index]), volume.image[None], volume.labels[None]

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the image and the labels of one case."""
        return self.inputs.dataset.read(int(self.rows[index]))


def _description(inputs: ImageInputs | VolumeInputs) -> dict[str, Any]:
    parts = inputs.dataset.rows
    return {
        **inputs.dataset.description,
        "num_cases": {part: len(rows) for part, rows in parts.items()},
        "class_counts": {part: inputs.class_counts(part).tolist() for part in parts},
    }
