"""Sections of the settings with all defaults resolved.

Each narrows the types of fields that may be None in its base class. ``field()`` makes them
required: a dataclass would inherit the default None.
"""

from dataclasses import dataclass, field

from lmf_jax.config.image_spec import ImageSize, ImageSpec
from lmf_jax.config.sections import (
    Augmentation,
    DataConfig,
    ModelConfig,
    NormalizationName,
    Optimizer,
    Split,
    TrainingConfig,
)


@dataclass(frozen=True, kw_only=True)
class ResolvedData(DataConfig):
    """A :class:`DataConfig` with dataset, split and image size."""

    dataset: str = field()
    split: Split = field()
    image_size: ImageSize = field()

    @property
    def image_spec(self) -> ImageSpec:
        """Size, resizing and channels of the decoded images."""
        return ImageSpec.of_size(self.image_size, self.resize, self.channels)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of an example; the images of a pair are side by side."""
        *space, width, channels = self.image_spec.shape
        return (*space, width if self.pair_by is None else 2 * width, channels)


@dataclass(frozen=True, kw_only=True)
class ResolvedModel(ModelConfig):
    """A :class:`ModelConfig` with architecture, weights and normalization."""

    model: str = field()
    pretrained: str = field()
    normalization: NormalizationName = field()


@dataclass(frozen=True, kw_only=True)
class ResolvedTraining(TrainingConfig):
    """A :class:`TrainingConfig` without None."""

    epochs: int = field()
    batch_size: int = field()
    optimizer: Optimizer = field()
    learning_rate: float = field()
    decay_epochs: int = field()
    augment: Augmentation = field()
    ema_decay: float = field()
