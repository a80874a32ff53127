"""Classifiers of images and volumes, a backbone with a head, and the two heads."""

from typing import get_args

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from lmf_jax.models.image_pairs import join_maps, pool_pairs, split_pairs
from lmf_jax.models.layers import Dropout, Initializer, parameter_dtype
from lmf_jax.models.metadata_branch import MetadataBranch
from lmf_jax.models.registry import HeadName, ModelOptions, SpatialDims


class LinearHead(nn.Module):
    """Logits as an affine function of the features.

    Attributes:
        num_classes: Number of classes.
        kernel_init: Initializer of the weights ``[features, num_classes]``.
        bias_init: Initializer of the bias ``[num_classes]``.
        dtype: Dtype of the computation and of the parameters.
    """

    num_classes: int
    kernel_init: Initializer
    bias_init: Initializer = nn.initializers.zeros
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, features: Float[Array, "batch features"]) -> Float[Array, "batch classes"]:
        """Multiply by the weights and add the bias."""
        shape = (features.shape[-1], self.num_classes)
        kernel = self.param("kernel", self.kernel_init, shape, self.dtype)
        bias = self.param("bias", self.bias_init, (self.num_classes,), self.dtype)
        # By default TPUs and GPUs may round the factors of a float32 product; not for the logits.
        return jnp.dot(features, kernel, precision=lax.Precision.HIGHEST) + bias[None]


class CosineHead(nn.Module):
    """Logits as the cosines between the features and one learned direction per class.

    The cosines are in [-1, 1]; the loss scales them. A feature vector of zeros has cosine 0 with
    every class, and a finite gradient.

    Attributes:
        num_classes: Number of classes.
        dtype: Dtype of the computation and of the parameters.

    Source: the normalized classifier of Cao et al., "Learning imbalanced datasets with
    label-distribution-aware margin loss", 2019, arXiv 1906.07413.
    """

    num_classes: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, features: Float[Array, "batch features"]) -> Float[Array, "batch classes"]:
        """Multiply the features and the weights, both scaled to length 1."""
        unit_normal = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        shape = (features.shape[-1], self.num_classes)
        kernel = self.param("kernel", unit_normal, shape, self.dtype)
        cosines = jnp.dot(
            _unit_vectors(features, axis=1),
            _unit_vectors(kernel, axis=0),
            precision=lax.Precision.HIGHEST,
        )
        return jnp.clip(cosines, -1, 1)


def _unit_vectors(vectors: Float[Array, "rows columns"], axis: int) -> Float[Array, "rows columns"]:
    """Scale the vectors along ``axis`` to length 1, except those too short to have a direction."""
    squares = jnp.square(vectors).sum(axis, keepdims=True)
    has_direction = squares > jnp.finfo(vectors.dtype).tiny
    return vectors * lax.rsqrt(jnp.where(has_direction, squares, 1))


class Classifier(nn.Module):
    """A classifier of images or volumes: backbone, mean over the map, dropout, head.

    With a metadata branch, its features are concatenated to the pooled ones before the head.

    Attributes:
        backbone: Module ``(images, train) -> [batch, *space, features]``.
        head: Module ``[batch, features] -> [batch, num_classes]``.
        dropout_rate: Probability that a pooled feature is dropped in training.
        axis_name: The mapped axis over whose devices the batch is spread, or None.
        freeze_backbone: Whether the backbone is a fixed function, in training too.
        metadata: Module ``(metadata, train) -> [batch, features]``; None for images alone.
        pairs: Whether each image is two images side by side, which go through the same backbone;
            the head gets the features of both. See :mod:`lmf_jax.models.image_pairs`.
        spatial_dims: 2 for images, 3 for volumes.

    The parameters are under ``"backbone"``, ``"head"`` and, with the branch, ``"metadata"``. A call
    is ``classify(features(images))``; Grad-CAM and embeddings use the maps between the two.
    """

    backbone: nn.Module
    head: nn.Module
    dropout_rate: float = 0.0
    axis_name: str | None = None
    freeze_backbone: bool = False
    metadata: nn.Module | None = None
    pairs: bool = False
    spatial_dims: SpatialDims = 2

    def setup(self) -> None:
        """Create the dropout layer."""
        self.dropout = Dropout(self.dropout_rate, axis_name=self.axis_name)

    def __call__(
        self,
        images: Float[Array, "batch *space channels"],
        train: bool = False,
        metadata: Float[Array, "batch columns"] | None = None,
    ) -> Float[Array, "batch classes"]:
        """Return the logits of the images.

        Args:
            images: ``[batch, *space, channels]``, float, already normalized; the space is height
                and width, before which a volume has its depth.
            train: Whether to normalize by the batch's statistics, update the running ones (the
                collection ``"batch_stats"`` must be mutable) and drop at random (the random stream
                ``"dropout"`` is needed if a rate is not zero).
            metadata: Encoded metadata of the images, if the model has a branch for them.

        Returns:
            Logits ``[batch, num_classes]``, float32 (float64 if the model computes in float64).

        Raises:
            ValueError: If the images are not float ``[batch, *space, channels]`` with 3 channels
                or 1, or metadata are missing, or given to a model without a branch.
        """
        return self.classify(self.features(images, train), train, metadata)

    def features(
        self, images: Float[Array, "batch *space channels"], train: bool = False
    ) -> Float[Array, "batch *map_space features"]:
        """Return the last map of the backbone."""
        space = ("depth", "height", "width")[-self.spatial_dims :]
        if (
            images.ndim != 2 + len(space)
            or images.shape[-1] not in (1, 3)
            or not jnp.issubdtype(images.dtype, jnp.floating)
        ):
            raise ValueError(
                f"Images have shape {images.shape} and dtype {images.dtype}; expected normalized "
                f"floating-point images [batch, {', '.join(space)}, channels] with 3 channels or 1."
            )
        if self.pairs:
            halves, has_image = split_pairs(images)
            return join_maps(self._backbone_maps(halves, train), has_image)
        return self._backbone_maps(images, train)

    def _backbone_maps(
        self, images: Float[Array, "batch *space channels"], train: bool
    ) -> Float[Array, "batch *map_space features"]:
        if self.freeze_backbone:
            return lax.stop_gradient(self.backbone(images, False))
        return self.backbone(images, train)

    def classify(
        self,
        features: Float[Array, "batch *map_space features"],
        train: bool = False,
        metadata: Float[Array, "batch columns"] | None = None,
    ) -> Float[Array, "batch classes"]:
        """Return logits from the last map of the backbone and the metadata, if it has a branch."""
        if (metadata is None) != (self.metadata is None):
            raise ValueError(
                "Metadata are given to a model without a branch for them, or lack for one with it."
            )
        maps = features.astype(parameter_dtype(features.dtype))
        means = pool_pairs(maps) if self.pairs else maps.mean(tuple(range(1, maps.ndim - 1)))
        pooled = self.dropout(means, train)
        if self.metadata is not None:
            pooled = jnp.concatenate([pooled, self.metadata(metadata, train)], axis=1)
        return self.head(pooled)


def make_classifier(
    backbone: nn.Module,
    options: ModelOptions,
    *,
    kernel_init: Initializer,
    bias_init: Initializer = nn.initializers.zeros,
    dropout_rate: float = 0.0,
) -> Classifier:
    """Return a classifier with the head and the metadata branch that the options ask for.

    Args:
        backbone: As in :class:`Classifier`.
        options: Those of the model; the head computes in at least float32.
        kernel_init: Initializer of the linear head's weights.
        bias_init: Initializer of the linear head's bias.
        dropout_rate: As in :class:`Classifier`.

    Raises:
        ValueError: If there is no head of that name.
    """
    dtype = parameter_dtype(options.dtype)
    head: nn.Module
    if options.head == "linear":
        head = LinearHead(options.num_classes, kernel_init, bias_init, dtype)
    elif options.head == "cosine":
        head = CosineHead(options.num_classes, dtype)
    else:
        raise ValueError(
            f"Unknown head {options.head!r}; expected one of {', '.join(get_args(HeadName))}."
        )
    widths = options.metadata_widths
    return Classifier(
        backbone,
        head,
        dropout_rate=dropout_rate,
        axis_name=options.axis_name,
        freeze_backbone=options.freeze_backbone,
        metadata=MetadataBranch(widths, dtype, options.axis_name) if widths else None,
        pairs=options.pairs,
        spatial_dims=options.spatial_dims,
    )
