"""What a segmentation run reads, of images or of volumes: its batches and the cases of its test."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Int64, Shaped

from data.batches.image_cache import Images, Masks, open_images, open_masks, pixel_counts
from data.batches.patches import patch_batches, volume_cases
from data.batches.pipeline import EvaluationBatches, evaluation_batches, train_batches
from data.batches.stream import Stream
from data.batches.tiles import TileBatches, num_tiles, tile_batches
from data.registry import datasets_of_kind
from data.shard import Shard
from data.splits.dataset import check_is_of_run
from data.splits.segmentation import SegmentationDataset, load_segmentation_dataset
from data.splits.volumes import VolumeDataset, load_volumes
from lmf_jax.config import Config
from lmf_jax.errors import UserError


def open_segmentation(
    dataset: SegmentationDataset | VolumeDataset, config: Config, shard: Shard | None = None
) -> "ImageInputs | VolumeInputs":
    """Open the images and masks, or the volumes, that a run reads.

    Args:
        dataset: From :func:`load_for_segmentation`.
        config: Resolved settings.
        shard: Of this process; by itself everything.

    Raises:
        UserError: If an image or a mask cannot be decoded, or ``data_dir`` cannot be written.
    """
    shard = shard or Shard()
    if isinstance(dataset, VolumeDataset):
        return VolumeInputs(dataset, config, shard, len(dataset.modalities))
    size, cache, data_dir = config.image_size, config.cache, config.data_dir
    images = open_images(dataset, size, cache=cache, data_dir=data_dir)
    masks = open_masks(dataset, size, cache=cache, data_dir=data_dir)
    return ImageInputs(dataset, config, shard, images, masks)


def load_for_segmentation(
    config: Config, fingerprint: str | None = None
) -> SegmentationDataset | VolumeDataset:
    """Open the dataset of a segmentation run and splits it.

    Args:
        config: The settings, resolved or not.
        fingerprint: What a run to resume recorded of its data.

    Raises:
        UserError: If there is no such dataset or split, or a setting does not fit the dataset.
    """
    where = {"data_dir": config.data_dir, "split": config.split, "split_seed": config.split_seed}
    if config.dataset in datasets_of_kind("volumes"):
        return load_volumes(config.dataset, **where)
    if config.patch_size is not None:
        raise UserError(
            f"--patch-size is for volumes, and {config.dataset} has images; give --image-size."
        )
    return load_segmentation_dataset(config.dataset, **where, fingerprint=fingerprint)


def inputs_of_run(
    config: Config, fingerprint: str, batch_size: int, data_dir: str | Path | None = None
) -> "ImageInputs | VolumeInputs":
    """Open what a segmentation run was trained with.

    Args:
        config: The settings of the run.
        fingerprint: What the run recorded of its data.
        batch_size: Images that are read at a time.
        data_dir: The folder of prepared datasets; by itself that of the run.

    Raises:
        UserError: If the data are not there, or are others, on which the figures of the run would
            mean something else.
    """
    data_dir = str(data_dir or config.data_dir)
    config = dataclasses.replace(config, data_dir=data_dir, batch_size=batch_size)
    dataset = load_for_segmentation(config, fingerprint)
    check_is_of_run(dataset.name, dataset.fingerprint, fingerprint)
    return open_segmentation(dataset, config)


def describe(inputs: "ImageInputs | VolumeInputs") -> dict[str, Any]:
    """Return what a run records of its data: plain values, for JSON.

    Args:
        inputs: What it reads.
    """
    parts = inputs.dataset.rows
    return {
        **inputs.dataset.description,
        "num_cases": {part: len(rows) for part, rows in parts.items()},
        "class_counts": {part: inputs.class_counts(part).tolist() for part in parts},
    }


@dataclass(frozen=True, eq=False)
class ImageInputs:
    """What a run on images reads.

    Attributes:
        dataset: The dataset with its split.
        config: Resolved settings.
        shard: Of this process.
        images: All images.
        masks: All masks.
        num_channels: Channels of an image.
    """

    dataset: SegmentationDataset
    config: Config
    shard: Shard
    images: Images
    masks: Masks
    num_channels: int = 3

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
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            **vars(self.shard),
        )

    def validation(self) -> EvaluationBatches:
        """Return the batches that cover every validation image."""
        return self.batches(self.dataset.rows["validation"])

    def cases(self, part: str) -> "ImageCases":
        """Return this process's share of the images of a part.

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
            batch_size=self.config.batch_size,
            **vars(self.shard),
        )


@dataclass(frozen=True, eq=False)
class ImageCases:
    """The images of a part, each a case.

    Attributes:
        inputs: What they are of.
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
        """Yield places, images uint8 [b, h, w, 3] and labels; places of -1 are padding."""
        batches = self.inputs.batches(self.rows)
        for number, batch in enumerate(batches):
            start = number * batches.batch_size + batches.block_start
            places = np.arange(start, start + batches.block_size)
            yield np.where(batch["mask"], places, -1), batch["image"], batch["label"]

    def read(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the image and the labels of one case."""
        row = self.rows[[place]]
        return self.inputs.images[row][0], self.inputs.masks[row][0]


@dataclass(frozen=True, eq=False)
class VolumeInputs:
    """What a run on volumes reads.

    Attributes:
        dataset: The dataset with its split.
        config: Resolved settings.
        shard: Of this process.
        num_channels: Modalities of a volume.
    """

    dataset: VolumeDataset
    config: Config
    shard: Shard
    num_channels: int

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
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            foreground_share=self.config.foreground_share,
            **vars(self.shard),
        )

    def validation(self) -> TileBatches:
        """Return the batches of patches that cover every validation volume."""
        return tile_batches(
            self.dataset,
            self.dataset.rows["validation"],
            patch_size=self._patch_size,
            batch_size=self.config.batch_size,
            **vars(self.shard),
        )

    def cases(self, part: str) -> "VolumeCases":
        """Return this process's share of the volumes of a part.

        Args:
            part: "train", "validation" or "test".
        """
        rows = self.dataset.rows[part]
        groups, spacing = self.dataset.groups_of(part), self.dataset.spacing
        return VolumeCases(self, rows, self.dataset.ids[rows], groups, spacing)

    @property
    def _patch_size(self) -> tuple[int, int, int]:
        assert self.config.patch_size is not None  # every dataset of volumes brings one
        return self.config.patch_size


@dataclass(frozen=True, eq=False)
class VolumeCases:
    """The volumes of a part, each a case.

    Attributes:
        inputs: What they are of.
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
        """Yield place, image float32 [1, d, h, w, M] and labels of one case after the other."""
        shard = self.inputs.shard
        places = range(shard.process_index, len(self.rows), shard.process_count)
        cases = volume_cases(self.inputs.dataset, self.rows, **vars(shard))
        for place, (_, volume) in zip(places, cases, strict=True):
            yield np.array([place]), volume.image[None], volume.labels[None]

    def read(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the image and the labels of one case."""
        return self.inputs.dataset.read(int(self.rows[place]))
