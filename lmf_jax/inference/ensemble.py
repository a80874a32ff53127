"""Several models of one task whose probabilities are averaged over models and views."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lmf_jax.config import ResolvedConfig
from lmf_jax.inference.image_model import ImageModel
from lmf_jax.inference.segmenter import TrainedSegmenter
from lmf_jax.inference.views import View

Member = TypeVar("Member", bound=ImageModel | TrainedSegmenter)


@dataclass(frozen=True)
class Ensemble(Generic[Member]):
    """Models and views; a subclass averages the probabilities of its task.

    Attributes:
        members: One or several models with equal class names and image sizes.
        views: The views of each image, or of each slice of a volume.
    """

    members: tuple[Member, ...]
    views: Sequence[View]

    @property
    def config(self) -> ResolvedConfig:
        """The settings of the first model."""
        return self.members[0].config

    @property
    def dataset(self) -> Mapping[str, Any]:
        """The recorded description of the data of the first model."""
        return self.members[0].dataset

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of every class, by class id."""
        return self.members[0].class_names
