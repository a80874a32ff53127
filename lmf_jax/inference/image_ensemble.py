"""Ensembles of models with outputs for the whole image: what all of their tasks share."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from lmf_jax.distributed.devices import Batch
from lmf_jax.evaluation.classification.gradcam import resize_heat
from lmf_jax.inference.ensemble import Ensemble
from lmf_jax.inference.image_model import ImageModel
from lmf_jax.inference.predict import predict_views
from lmf_jax.metadata_encoding import MetadataEncoding

ImageMember = TypeVar("ImageMember", bound=ImageModel)


@dataclass(frozen=True)
class ImageEnsemble(Ensemble[ImageMember]):
    """Models whose calibrated probabilities are averaged over models and views."""

    @property
    def encoding(self) -> MetadataEncoding | None:
        """The columns of all members, one after the other; None if all take images alone."""
        encodings = [member.encoding for member in self.members if member.encoding is not None]
        columns = tuple(column for encoding in encodings for column in encoding.columns)
        return MetadataEncoding(columns) if columns else None

    @property
    def _columns(self) -> list[slice]:
        """The features of :attr:`encoding` that each member takes."""
        widths = [sum(m.encoding.widths) if m.encoding else 0 for m in self.members]
        stops = np.cumsum(widths).tolist()
        return [slice(stop - width, stop) for stop, width in zip(stops, widths, strict=True)]

    def predict_members(
        self, batches: Iterable[Batch]
    ) -> tuple[Float[np.ndarray, "members n classes"], Int[np.ndarray, "n ..."]]:
        """Return the mean probabilities of each model over its views, and the labels."""
        steps = [(member.predict_step, member.variables) for member in self.members]
        logits, labels = predict_views(steps, batches, self.views, self._columns)
        by_member = np.split(logits, len(self.members), axis=1)
        means = [
            np.mean([member.calibrated_probabilities(x) for x in of_views.swapaxes(0, 1)], axis=0)
            for member, of_views in zip(self.members, by_member, strict=True)
        ]
        return np.stack(means), labels

    def probabilities(
        self,
        images: UInt8[np.ndarray, "batch *space channels"],
        metadata: Float32[np.ndarray, "batch columns"] | None = None,
    ) -> Float[np.ndarray, "batch classes"]:
        """Return the mean probabilities of images in 0 to 255, in the size of training."""
        each = [
            member.probabilities(view.apply(images), own)
            for member, own in self._with_metadata(metadata)
            for view in self.views
        ]
        return np.mean(each, axis=0)

    def heat(
        self,
        images: UInt8[np.ndarray, "batch *space channels"],
        class_ids: Int[np.ndarray, " batch"],
        metadata: Float32[np.ndarray, "batch columns"] | None = None,
    ) -> Float[np.ndarray, "batch *space"]:
        """Return the mean Grad-CAM map of one class in each image.

        The map of each model and view is divided by its maximum, so that all have equal weight.
        """
        maps = [
            view.undo(np.asarray(resize_heat(heat, *images.shape[1:-1]))[..., None])[..., 0]
            for member, own in self._with_metadata(metadata)
            for view in self.views
            for heat in [member.heat(view.apply(images), class_ids, own)]
        ]
        return np.mean(maps, axis=0)

    def _with_metadata(
        self, metadata: Float32[np.ndarray, "batch columns"] | None
    ) -> list[tuple[ImageMember, Float32[np.ndarray, "batch _"] | None]]:
        """Return each member with its part of the metadata, from ``encoding.encode``."""
        return [
            (member, None if metadata is None else metadata[:, columns])
            for member, columns in zip(self.members, self._columns, strict=True)
        ]
