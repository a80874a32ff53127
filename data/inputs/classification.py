"""Inputs of a run with classes or labels of images: batches for training, validation and test."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from data.batches.image_cache import Images, open_images
from data.batches.pipeline import (
    EvaluationBatches,
    FurtherInputs,
    evaluation_batches,
    train_batches,
)
from data.batches.stream import Stream
from data.inputs.metadata_columns import encode_metadata
from data.shard import Shard
from data.splits.dataset import Dataset, load_dataset
from data.splits.folds import selected_fold
from data.splits.multilabel import MultilabelDataset, load_multilabel_dataset
from lmf_jax.config import Config, ResolvedConfig


def load_for_classification(config: Config, recorded: Mapping[str, Any] | None = None) -> Dataset:
    """Open the dataset of a classification run, split it, and encode its metadata.

    Args:
        config: All settings, resolved or not.
        recorded: The recorded description of the data of a run to resume.

    Raises:
        UserError: If there is no such dataset or split, or a setting does not fit the dataset.
    """
    data = config.data
    dataset = load_dataset(
        config.dataset_name,
        data_dir=data.data_dir,
        split=data.split,
        split_seed=data.split_seed,
        imbalance_ratio=data.imbalance_ratio,
        fingerprint=recorded["fingerprint"] if recorded else None,
        where=data.where,
        fold=selected_fold(data.folds, data.fold),
    )
    return encode_metadata(dataset, data.metadata, recorded)


def load_for_multilabel(
    config: Config, recorded: Mapping[str, Any] | None = None
) -> MultilabelDataset:
    """Open the dataset of a multi-label run, split it, and encode its metadata.

    Args:
        config: All settings, resolved or not.
        recorded: The recorded description of the data of a run to resume.

    Raises:
        UserError: As :func:`load_for_classification`, or if a label cannot be learned.
    """
    data = config.data
    dataset = load_multilabel_dataset(
        config.dataset_name,
        data_dir=data.data_dir,
        split=data.split,
        split_seed=data.split_seed,
        fingerprint=recorded["fingerprint"] if recorded else None,
        where=data.where,
        fold=selected_fold(data.folds, data.fold),
        pair_by=data.pair_by,
    )
    return encode_metadata(dataset, data.metadata, recorded)


@dataclass(frozen=True, eq=False)
class ClassificationInputs:
    """The images of a run, with their classes or label vectors.

    Attributes:
        dataset: The dataset with its split.
        config: All settings.
        shard: The part of each batch that this process reads.
        images: All images.
        missing_columns: Metadata columns that are missing for every image, whatever their values.
    """

    dataset: Dataset | MultilabelDataset
    config: ResolvedConfig
    shard: Shard
    images: Images
    missing_columns: tuple[str, ...] = ()

    @cached_property
    def further(self) -> FurtherInputs:
        """The inputs of the model besides the images: encoded metadata, if it gets any."""
        encoding = self.dataset.encoding
        if encoding is None:
            return {}
        features = encoding.encode(self.dataset.metadata, len(self.dataset.ids))
        return {"metadata": encoding.without(features, self.missing_columns)}

    @property
    def description(self) -> dict[str, Any]:
        """Record of the data in ``config.json``, JSON-serializable."""
        return self.dataset.description

    def training(self) -> Stream[Any]:
        """Return the endless stream of training batches."""
        training = self.config.training
        return train_batches(
            self.images,
            self.dataset.labels,
            self.dataset.rows["train"],
            batch_size=training.batch_size,
            seed=training.seed,
            sampling=training.sampling,
            effective_number_beta=self.config.loss.effective_number_beta,
            further=self.further,
            **vars(self.shard),
        )

    def validation(self) -> EvaluationBatches:
        """Return the batches that cover every validation image."""
        return self.batches("validation")

    def batches(self, part: str) -> EvaluationBatches:
        """Return the batches that cover every image of a part.

        Args:
            part: "train", "validation" or "test".
        """
        return evaluation_batches(
            self.images,
            self.dataset.labels,
            self.dataset.rows[part],
            batch_size=self.config.training.batch_size,
            further=self.further,
            **vars(self.shard),
        )


def open_classification(
    dataset: Dataset | MultilabelDataset, config: ResolvedConfig, shard: Shard | None = None
) -> ClassificationInputs:
    """Open the images that a run reads.

    Args:
        dataset: From :func:`load_for_classification` or :func:`load_for_multilabel`.
        config: All settings.
        shard: The part of each batch that this process reads (default: all of it).

    Raises:
        UserError: If an image cannot be decoded, or ``data_dir`` cannot be written.
    """
    data = config.data
    images = open_images(dataset, data.image_spec, cache=data.cache, data_dir=data.data_dir)
    return ClassificationInputs(dataset, config, shard or Shard(), images)
