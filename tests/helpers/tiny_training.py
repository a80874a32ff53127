"""A model and batches small enough to compile in a second."""

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmf_jax.models.architectures.resnet import ResNet
from lmf_jax.models.architectures.unet import SpatialDims, UNet
from lmf_jax.models.classifier import Classifier, LinearHead
from lmf_jax.models.layers import parameter_dtype
from lmf_jax.models.metadata_branch import MetadataBranch
from lmf_jax.training.progress import Progress

NUM_CLASSES = 3
SIDE = 16


def tiny_model(
    *,
    num_classes: int = NUM_CLASSES,
    dtype: Any = jnp.float32,
    axis_name: str | None = None,
    head: str = "linear",
    remat: bool = False,
    freeze_backbone: bool = False,
    metadata_widths: tuple[int, ...] = (),
    pairs: bool = False,
) -> Classifier:
    """Return a ResNet of one bottleneck with dropout: it has all layers that devices share."""
    backbone = ResNet((1,), width=4, dtype=dtype, axis_name=axis_name, remat=remat)
    initializer = jax.nn.initializers.normal(0.1)
    linear = LinearHead(num_classes, initializer, initializer, parameter_dtype(dtype))
    branch = None
    if metadata_widths:
        branch = MetadataBranch(tuple(metadata_widths), parameter_dtype(dtype), axis_name)
    return Classifier(
        backbone,
        linear,
        dropout_rate=0.2,
        axis_name=axis_name,
        freeze_backbone=freeze_backbone,
        metadata=branch,
        pairs=pairs,
    )


def random_batch(seed: int, size: int) -> dict[str, np.ndarray]:
    """Random images, with labels of which the last class is rare."""
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (size, SIDE, SIDE, 3), np.uint8),
        "label": rng.choice(NUM_CLASSES, size, p=[0.6, 0.3, 0.1]).astype(np.int32),
    }


def tiny_unet(*, spatial_dims: SpatialDims, axis_name: str | None = None, **settings: Any) -> UNet:
    """Return a U-Net of two levels, for sides of more than four."""
    del axis_name  # nothing of it crosses devices
    return UNet(spatial_dims=spatial_dims, features=4, depth=2, **settings)


def tiny_models(model: Callable[..., Any], *modules: ModuleType) -> Any:
    """Return a fixture for a test module: these modules create the given model, whatever the name.

    Assign it to a name of the test module; it is used by every test.
    """

    @pytest.fixture(scope="module", autouse=True)
    def replaced_models() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for module in modules:
                patch.setattr(module, "create_model", lambda name, **settings: model(**settings))
            yield

    return replaced_models


def stop_after(patch: pytest.MonkeyPatch, last_step: int) -> None:
    """Send SIGTERM to the training in this process after a number of steps."""
    real, steps = Progress.add, itertools.count(1)

    def add_and_stop(progress: Progress) -> None:
        real(progress)
        if next(steps) == last_step:
            os.kill(os.getpid(), signal.SIGTERM)

    patch.setattr(Progress, "add", add_and_stop)
