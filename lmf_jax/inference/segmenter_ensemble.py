"""Ensembles of segmenters: the mean of the calibrated probabilities of models and views."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt8

from lmf_jax.config import ResolvedConfig
from lmf_jax.inference.segmenter import Images, TrainedSegmenter
from lmf_jax.inference.views import View


@dataclass(frozen=True)
class SegmenterEnsemble:
    """Segmenters whose probabilities are averaged over models and views.

    It segments like a :class:`TrainedSegmenter`.

    Attributes:
        members: One or several models with equal class names and image sizes.
        views: The views of each image, or of each slice of a volume.
    """

    members: tuple[TrainedSegmenter, ...]
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
        """Name of every class, by class id, the background first."""
        return self.members[0].class_names

    def segment(self, images: Images) -> UInt8[np.ndarray, "batch *space"]:
        """Return the class of every pixel or voxel, see :meth:`TrainedSegmenter.segment`."""
        return self.calibrated_probabilities(images).argmax(axis=-1).astype(np.uint8)

    def probabilities(
        self, volume: Float[np.ndarray, "d h w modalities"]
    ) -> Float32[np.ndarray, "d h w classes"]:
        """Return the probability of each class in every voxel of a normalized volume."""
        return self.calibrated_probabilities(volume[None])[0]

    def calibrated_probabilities(
        self, images: Images
    ) -> Float32[np.ndarray, "batch *space classes"]:
        """Return the mean probability of each class in every pixel or voxel.

        Args:
            images: As for :meth:`segment`.
        """
        total = np.zeros((*images.shape[:-1], len(self.class_names)), np.float32)
        for member in self.members:
            for view in self.views:
                total += view.undo(member.calibrated_probabilities(view.apply(images)))
        return total / np.float32(len(self.members) * len(self.views))
