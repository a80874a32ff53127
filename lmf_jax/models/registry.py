"""The registry of models: each is registered beside its architecture, by its name in ``--model``.

``--model``, its help, the checks of other flags and :func:`create_model` all read the registry, and
every file in ``lmf_jax/models/architectures`` is imported: a new architecture is one file.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

HeadName = Literal["linear", "cosine"]
Task = Literal["classification", "segmentation"]
SpatialDims = Literal[2, 3]
Renames = Sequence[tuple[str, str]]
"""Regular expressions and replacements, applied one after the other."""
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class ModelOptions:
    """The arguments of :func:`create_model`, for the builder of a model."""

    num_classes: int
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    head: HeadName = "linear"
    remat: bool = False
    freeze_backbone: bool = False
    spatial_dims: SpatialDims = 2
    metadata_widths: tuple[int, ...] = ()
    pairs: bool = False


@dataclass(frozen=True)
class TorchvisionWeights:
    """The weights that torchvision publishes for a model, and its names of our modules."""

    imagenet_file: str
    """The file that Sadi et al. start from; the digits in its name begin its SHA-256."""
    renames: Renames
    """How the path of a module, such as ``"backbone/layer1_0/conv1/norm"``, becomes its name."""


@dataclass(frozen=True)
class KerasWeights:
    """Keras' weights of a model, and its names of our modules."""

    owner: str
    """Name of the model in Keras, for messages."""
    first_layer: str
    """A layer that no other model has, by which a file is recognized."""
    renames: Renames
    """How the path of a module becomes the name of its layer."""


@dataclass(frozen=True)
class ModelSpec:
    """A registered model."""

    name: str
    """The name that ``--model`` and :func:`create_model` take."""
    task: Task
    summary: str
    """One line for the help."""
    source: str
    """Where the architecture, its constants and its initializers come from."""
    build: Callable[[ModelOptions], nn.Module]
    normalization: str
    """The default of ``--normalization``, the one that published weights were trained with."""
    has_classifier_head: bool
    """Whether there are a backbone that can be frozen and a head that can be cosine."""
    has_batch_norm: bool
    """Whether a batch of one image cannot be trained."""
    spatial_dims: tuple[SpatialDims, ...]
    torchvision: TorchvisionWeights | None
    timm: Renames | None
    """How the path of a module becomes timm's name, for weights that torchvision does not have."""
    keras: KerasWeights | None


_MODELS: dict[str, ModelSpec] = {}


def register_model(
    name: str,
    *,
    task: Task,
    summary: str,
    source: str,
    normalization: str = "imagenet",
    has_classifier_head: bool = True,
    has_batch_norm: bool = True,
    spatial_dims: Sequence[SpatialDims] = (2,),
    torchvision: TorchvisionWeights | None = None,
    timm: Renames | None = None,
    keras: KerasWeights | None = None,
) -> Callable[[Function], Function]:
    """Return a decorator that registers the builder of a model and leaves it as it is.

    The builder is called with :class:`ModelOptions`. The other arguments are the fields of
    :class:`ModelSpec`.

    Raises:
        ValueError: If the name is taken by another builder.
    """

    def register(build: Function) -> Function:
        known = _MODELS.get(name)
        # A module that is loaded again registers the same function once more.
        if known is not None and _origin(known.build) != _origin(build):
            raise ValueError(
                f"A model named {name!r} is registered by {_origin(known.build)}; choose another "
                "name."
            )
        _MODELS[name] = ModelSpec(
            name=name,
            task=task,
            summary=summary,
            source=source,
            build=build,
            normalization=normalization,
            has_classifier_head=has_classifier_head,
            has_batch_norm=has_batch_norm,
            spatial_dims=tuple(spatial_dims),
            torchvision=torchvision,
            timm=timm,
            keras=keras,
        )
        return build

    return register


def _origin(build: Callable[..., Any]) -> str:
    return f"{build.__module__}.{build.__qualname__}"


def get_model(name: str) -> ModelSpec:
    """Return the registered model of a name.

    Raises:
        ValueError: If no model has the name.
    """
    if name not in _MODELS:
        raise ValueError(f"Unknown model {name!r}; expected one of {', '.join(model_names())}.")
    return _MODELS[name]


def registered_models() -> tuple[ModelSpec, ...]:
    """Return all models, those of classification first."""
    return tuple(sorted(_MODELS.values(), key=lambda spec: (spec.task, spec.name)))


def model_names(task: Task | None = None) -> tuple[str, ...]:
    """Return the names of the models of a task, or of all."""
    return tuple(spec.name for spec in registered_models() if task in (None, spec.task))


def create_model(
    name: str,
    *,
    num_classes: int,
    dtype: DTypeLike = jnp.float32,
    axis_name: str | None = None,
    head: HeadName = "linear",
    remat: bool = False,
    freeze_backbone: bool = False,
    spatial_dims: SpatialDims | None = None,
    metadata_widths: Sequence[int] = (),
    pairs: bool = False,
) -> nn.Module:
    """Create a classifier of images or volumes, or a U-Net.

    ``model.init(key, images)`` gives the variables of a classifier,
    ``{"params", "batch_stats"}``; ``model.apply(variables, images)`` the logits in evaluation, and
    ``model.apply(variables, images, train=True, mutable=["batch_stats"], rngs={"dropout": key})``
    the logits in training and the new batch statistics. Images are float
    ``[batch, height, width, channels]`` with 3 channels or 1, already normalized; logits are
    ``[batch, num_classes]``. A classifier of volumes takes ``[batch, depth, height, width,
    channels]``.

    The U-Net has the variables ``{"params"}`` alone, takes ``[batch, *space, channels]`` with any
    number of channels and gives ``[batch, *space, num_classes]``, in training and in evaluation.

    Args:
        name: ``"resnet50"``, ``"densenet121"`` or ``"efficientnet_v2_s"``, with torchvision's
            architecture, constants and initializers; ``"tf_efficientnetv2_s"``, with those of timm;
            ``"resnet50_v1"`` and ``"resnet50_keras"``, with those of Keras until 2.2 and since 2.3;
            ``"resnet18_3d"``, with torchvision's of ``r3d_18``, for volumes; or ``"unet"``, see
            :class:`lmf_jax.models.architectures.unet.UNet`.
        num_classes: Number of classes.
        dtype: Dtype of the computation. Parameters, statistics and logits stay float32 at
            ``jnp.bfloat16``, and are float64 at ``jnp.float64``.
        axis_name: Name of the ``jax.pmap`` axis over whose devices each batch is spread: batch
            statistics and random draws are then those of the whole batch. None: no such axis. The
            U-Net needs none, because its samples do not depend on each other.
        head: ``"linear"``, or ``"cosine"`` for cosines in [-1, 1] between features and class
            directions; the U-Net has the linear one.
        remat: Whether blocks are computed again in the backward pass: less memory, more time, the
            same variables.
        freeze_backbone: Whether a classifier's backbone is a fixed function in training too: it
            normalizes by its running statistics, keeps them, and passes no gradient.
        spatial_dims: 2 for images, or 3 for volumes (default: that of the model; the U-Net takes
            both, by default images).
        metadata_widths: Features of each metadata column that a classifier gets beside the images,
            see :class:`lmf_jax.models.metadata_branch.MetadataBranch`; empty for images alone.
        pairs: Whether each image is two images side by side, such as both eyes of a patient: a
            classifier joins the features of both. A half of one color holds no image.

    Returns:
        The Flax module, a :class:`lmf_jax.models.classifier.Classifier` or a U-Net.

    Raises:
        ValueError: If there is no model or no head of that name, or the model has no such variant.
    """
    spec = get_model(name)
    if not spec.has_classifier_head and (head != "linear" or freeze_backbone or metadata_widths):
        raise ValueError(
            f"Cannot create {name} with head={head!r}, freeze_backbone={freeze_backbone} and "
            f"metadata_widths={tuple(metadata_widths)}; it has the linear head, no backbone to "
            "freeze, and takes images alone."
        )
    if spatial_dims is None:
        spatial_dims = spec.spatial_dims[0]
    if spatial_dims not in spec.spatial_dims:
        others = [other.name for other in registered_models() if spatial_dims in other.spatial_dims]
        raise ValueError(
            f"{name} takes no spatial_dims={spatial_dims}; choose one of {', '.join(others)}."
        )
    return spec.build(
        ModelOptions(
            num_classes,
            dtype,
            axis_name,
            head,
            remat,
            freeze_backbone,
            spatial_dims,
            tuple(metadata_widths),
            pairs,
        )
    )
