"""Ensembles of segmenters: the mean of the calibrated probabilities of models and views."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, UInt8

from lmf_jax.inference.ensemble import Ensemble
from lmf_jax.inference.segmenter import Images, TrainedSegmenter


@dataclass(frozen=True)
class SegmenterEnsemble(Ensemble[TrainedSegmenter]):
    """Segmenters whose probabilities are averaged over models and views.

    It segments like a :class:`TrainedSegmenter`.
    """

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
