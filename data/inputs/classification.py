"""What a classification run reads: its batches for training, validation and test."""

from dataclasses import dataclass
from typing import Any

from data.batches.image_cache import Images, open_images
from data.batches.pipeline import EvaluationBatches, evaluation_batches, train_batches
from data.batches.stream import Stream
from data.shard import Shard
from data.splits.dataset import Dataset, load_dataset
from lmf_jax.config import Config


def load_for_classification(config: Config, fingerprint: str | None = None) -> Dataset:
    """Open the dataset of a classification run and splits it.

    Args:
        config: The settings, resolved or not.
        fingerprint: What a run to resume recorded of its data.

    Raises:
        UserError: If there is no such dataset or split, or a setting does not fit the dataset.
    """
    return load_dataset(
        config.dataset,
        data_dir=config.data_dir,
        split=config.split,
        split_seed=config.split_seed,
        imbalance_ratio=config.imbalance_ratio,
        fingerprint=fingerprint,
    )


@dataclass(frozen=True, eq=False)
class ClassificationInputs:
    """What a run reads.

    Attributes:
        dataset: The dataset with its split.
        config: Resolved settings.
        shard: Of this process.
        images: All images.
    """

    dataset: Dataset
    config: Config
    shard: Shard
    images: Images

    def training(self) -> Stream[Any]:
        """Return the endless stream of training batches."""
        return train_batches(
            self.images,
            self.dataset.labels,
            self.dataset.rows["train"],
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            sampling=self.config.sampling,
            effective_number_beta=self.config.effective_number_beta,
            **vars(self.shard),
        )

    def batches(self, part: str) -> EvaluationBatches:
        """Return the batches that cover every image of a part.

        Args:
            part: "train", "validation" or "test".
        """
        return evaluation_batches(
            self.images,
            self.dataset.labels,
            self.dataset.rows[part],
            batch_size=self.config.batch_size,
            **vars(self.shard),
        )


def open_classification(dataset: Dataset, config: Config, shard: Shard) -> ClassificationInputs:
    """Open the images that a run reads.

    Args:
        dataset: From :func:`load_for_classification`.
        config: Resolved settings.
        shard: Of this process.

    Raises:
        UserError: If an image cannot be decoded, or ``data_dir`` cannot be written.
    """
    size, cache, data_dir = config.image_size, config.cache, config.data_dir
    images = open_images(dataset, size, cache=cache, data_dir=data_dir)
    return ClassificationInputs(dataset, config, shard, images)
