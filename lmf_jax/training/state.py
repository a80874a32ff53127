"""The train state and its initial value."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from lmf_jax.distributed.devices import Variables, replicated_sharding
from lmf_jax.models.layers import parameter_dtype
from lmf_jax.models.normalization import NORMALIZATIONS, AnyNormalization
from lmf_jax.training.augment import Augmentation


class TrainState(flax.struct.PyTreeNode):
    """Everything that a step changes; with the settings and the input position, the whole run.

    The names of the fields are part of the checkpoint format. The fields have no shape types,
    because tree transformations put other things than arrays here.
    """

    step: Any
    """Updates done so far, int32 ``[]``."""
    params: PyTree
    """Parameters, float32 (float64 where the model computes in it)."""
    batch_stats: PyTree
    """Running mean and variance of every BatchNorm, in the type of the parameters."""
    opt_state: PyTree
    """State of the optimizer."""
    ema: PyTree | None
    """Moving average of ``{"params", "batch_stats"}``, or None."""
    loss_sum: Any
    """Sum of the batch losses of the current epoch so far, float ``[]``."""
    nonfinite_step: Any
    """The first update with a loss or gradient that is not finite, int32 ``[]``; -1 if none."""

    @property
    def evaluation_variables(self) -> Variables:
        """The variables to validate, test and predict with."""
        if self.ema is not None:
            return self.ema
        return {"params": self.params, "batch_stats": self.batch_stats}


@dataclass(frozen=True)
class StepSettings:
    """Settings of the train step besides the model, the objective and the optimizer."""

    steps_per_epoch: int
    total_steps: int
    seed: int
    dtype: Any = jnp.float32
    normalization: AnyNormalization | None = NORMALIZATIONS["imagenet"]
    """None if images come normalized."""
    augment: Augmentation = "none"
    pairs: bool = False
    """Whether each image is two images side by side, which are augmented independently."""
    mixup: float = 0.0
    cutmix: float = 0.0
    accumulate: int = 1
    ema_decay: float = 0.0


def create_train_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, ...],
    settings: StepSettings,
    pretrained: Variables | None = None,
    further_shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> TrainState:
    """Return the state before the first step, which depends on the arguments only.

    Args:
        model: The module.
        optimizer: The optimizer of the train step.
        image_shape: Shape of one image, ``(*space, channels)``.
        settings: The settings of the train step.
        pretrained: Variables to start from; top-level modules that they lack, such as the head,
            start from random values.
        further_shapes: Shape of each further input of one image, by name (default: none).
    """

    # With the sharding that the mapped step returns: with another, the step would compile twice.
    @partial(jax.jit, out_shardings=replicated_sharding())
    def create(pretrained: Variables) -> TrainState:
        images = jnp.zeros((1, *image_shape), settings.dtype)
        further: dict[str, Any] = {
            name: jnp.zeros((1, *shape), jnp.float32)
            for name, shape in (further_shapes or {}).items()
        }
        variables = model.init(jax.random.key(settings.seed), images, train=False, **further)
        params, batch_stats = (
            _replace_modules(variables.get(name, {}), pretrained.get(name, {}))
            for name in ("params", "batch_stats")
        )
        averaged = {"params": params, "batch_stats": batch_stats}
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=batch_stats,
            opt_state=optimizer.init(params),
            ema=jax.tree.map(jnp.copy, averaged) if settings.ema_decay else None,
            loss_sum=jnp.zeros((), parameter_dtype(settings.dtype)),
            nonfinite_step=jnp.full((), -1, jnp.int32),
        )

    # The computation may read the memory of the NumPy arrays, which the caller may change.
    return jax.block_until_ready(create(pretrained or {}))


def train_state_shapes(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, ...],
    settings: StepSettings,
    further_shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> TrainState:
    """Return shape, type and sharding of every array of the state of :func:`create_train_state`."""
    state = jax.eval_shape(
        lambda: create_train_state(
            model, optimizer, image_shape, settings, further_shapes=further_shapes
        )
    )
    sharding = replicated_sharding()
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state)


def _replace_modules(initial: Variables, pretrained: Variables) -> dict[str, PyTree]:
    """Return the initial variables with the pretrained modules, cast to the initial types."""
    replaced = {
        name: jax.tree.map(lambda new, old: new.astype(old.dtype), module, initial[name])
        for name, module in pretrained.items()
    }
    return {**initial, **replaced}
