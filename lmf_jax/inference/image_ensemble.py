"""Ensembles of models with outputs for the whole image: what all of their tasks share."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int, UInt8

from lmf_jax.distributed.devices import Batch
from lmf_jax.evaluation.classification.gradcam import resize_heat
from lmf_jax.inference.ensemble import Ensemble
from lmf_jax.inference.image_model import ImageModel
from lmf_jax.inference.predict import predict_views

ImageMember = TypeVar("ImageMember", bound=ImageModel)


@dataclass(frozen=True)
class ImageEnsemble(Ensemble[ImageMember]):
    """Models whose calibrated probabilities are averaged over models and views."""

    def predict_members(
        self, batches: Iterable[Batch]
    ) -> tuple[Float[np.ndarray, "members n classes"], Int[np.ndarray, "n ..."]]:
        """Return the mean probabilities of each model over its views, and the labels."""
        steps = [(member.predict_step, member.variables) for member in self.members]
        logits, labels = predict_views(steps, batches, self.views)
        by_member = np.split(logits, len(self.members), axis=1)
        means = [
            np.mean([member.calibrated_probabilities(x) for x in of_views.swapaxes(0, 1)], axis=0)
            for member, of_views in zip(self.members, by_member, strict=True)
        ]
        return np.stack(means), labels

    def probabilities(
        self, images: UInt8[np.ndarray, "batch h w 3"]
    ) -> Float[np.ndarray, "batch classes"]:
        """Return the mean probabilities of RGB images in 0 to 255, in the size of training."""
        each = [m.probabilities(view.apply(images)) for m in self.members for view in self.views]
        return np.mean(each, axis=0)

    def heat(
        self, images: UInt8[np.ndarray, "batch h w 3"], class_ids: Int[np.ndarray, " batch"]
    ) -> Float[np.ndarray, "batch h w"]:
        """Return the mean Grad-CAM map of one class in each image.

        The map of each model and view is divided by its maximum, so that all have equal weight.
        """
        maps = [
            view.undo(np.asarray(resize_heat(heat, *images.shape[1:3]))[..., None])[..., 0]
            for member in self.members
            for view in self.views
            for heat in [member.heat(view.apply(images), class_ids)]
        ]
        return np.mean(maps, axis=0)
