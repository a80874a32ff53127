"""Optimizers and learning-rate decay."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

OptimizerName = Literal["adamw", "adam-l2", "sgd"]


def step_decay(
    learning_rate: float, *, decay_epochs: int, decay_factor: float, steps_per_epoch: int
) -> optax.Schedule:
    """Return the schedule that multiplies the learning rate by a factor every few epochs.

    The values are those of PyTorch's ``StepLR(decay_epochs, decay_factor)``, stepped every epoch.
    Decays are counted in integers: a float32 quotient rounds to the wrong side of some boundaries,
    and the decay would come one update late.

    Args:
        learning_rate: Learning rate of the first ``decay_epochs`` epochs.
        decay_epochs: Epochs between two decays.
        decay_factor: Factor of each decay, in [0, 1].
        steps_per_epoch: Updates per epoch.

    Returns:
        A function from the number of updates so far, traced or not, to the learning rate of the
        next update, an array of JAX's default float type.
    """

    def schedule(count: ArrayLike) -> Array:
        # Two divisions: the product of the divisors may not fit into 32 bits.
        num_decays = jnp.asarray(count) // steps_per_epoch // decay_epochs
        return learning_rate * decay_factor ** num_decays.astype(jnp.result_type(float))

    return schedule


def make_optimizer(
    name: OptimizerName, schedule: optax.Schedule, *, weight_decay: float, momentum: float = 0.9
) -> optax.GradientTransformation:
    """Return an optimizer by name; weight decay applies to all parameters, as in PyTorch.

    Args:
        name: ``"adamw"`` has decoupled weight decay; ``"adam-l2"`` is PyTorch's ``Adam`` with
            ``weight_decay``, as in the paper: the decay is added to the gradient before the moments
            (coupled L2). ``"sgd"`` has Nesterov momentum and coupled L2.
        schedule: Learning rate by step.
        weight_decay: Coefficient of the decay.
        momentum: Momentum of ``"sgd"``, in [0, 1).

    Raises:
        ValueError: If the name is unknown.
    """
    if name == "adamw":
        return optax.adamw(schedule, weight_decay=weight_decay)
    if name == "adam-l2":
        return optax.chain(
            optax.add_decayed_weights(weight_decay),
            optax.scale_by_adam(),
            optax.scale_by_learning_rate(schedule),
        )
    if name == "sgd":
        return optax.chain(
            optax.add_decayed_weights(weight_decay),
            optax.sgd(schedule, momentum=momentum, nesterov=True),
        )
    raise ValueError(f"Unknown optimizer {name!r}; expected adamw, adam-l2 or sgd.")


@dataclass(frozen=True)
class PlateauDecay:
    """Decay of the learning rate when the validation loss stops falling.

    The values are those of Keras' ``ReduceLROnPlateau``, computed from the losses so far, so a
    resumed run has no other state to restore.

    Attributes:
        patience: Epochs without improvement before a decay.
        factor: Factor of each decay, in [0, 1].
        min_delta: Smallest decrease of the loss that counts as improvement.
    """

    patience: int
    factor: float
    min_delta: float = 1e-4

    def lr_scale(self, losses: Sequence[float]) -> float:
        """Return the factor of the learning rate after epochs with these losses."""
        lr_scale, best, waited = 1.0, float("inf"), 0
        for loss in losses:
            if loss < best - self.min_delta:
                best, waited = loss, 0
                continue
            waited += 1
            if waited == self.patience:
                lr_scale, waited = lr_scale * self.factor, 0
        return lr_scale


class PlateauState(NamedTuple):
    """State of :func:`scale_by_plateau`."""

    plateau_share: Any  # the name of the leaf in checkpoints
    """Factor of the updates, float32 ``[]``."""


def scale_by_plateau() -> optax.GradientTransformation:
    """Return the transformation that scales updates by the factor :func:`set_lr_scale` sets."""

    def update(updates: PyTree, state: PlateauState, _: PyTree) -> tuple[PyTree, PlateauState]:
        scaled = jax.tree.map(lambda u: u * state.plateau_share.astype(u.dtype), updates)
        return scaled, state

    return optax.GradientTransformation(lambda _: PlateauState(jnp.ones((), jnp.float32)), update)


def set_lr_scale(opt_state: PyTree, lr_scale: float) -> PyTree:
    """Return an optimizer state with another factor of the learning rate."""
    old = optax.tree.get(opt_state, "plateau_share")
    new = jax.device_put(jnp.float32(lr_scale), old.sharding)
    return optax.tree.set(opt_state, plateau_share=new)


def train_head_only(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return an optimizer that keeps the backbone, without state for it.

    It updates the head and, if there is one, the metadata branch.
    """
    return optax.multi_transform(
        {"head": optimizer, "backbone": optax.set_to_zero()},
        lambda params: {name: "backbone" if name == "backbone" else "head" for name in params},
    )
