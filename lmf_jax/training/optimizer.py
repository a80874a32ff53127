"""The optimizer and the decay of its learning rate."""

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
    """Return the schedule that multiplies the rate by a factor every ``decay_epochs`` epochs.

    It has the values of PyTorch's ``StepLR(decay_epochs, decay_factor)`` stepped once an epoch.
    The decays are counted in integers: a quotient in float32 rounds to the wrong side of some
    boundaries, and the rate would fall one update late.

    Args:
        learning_rate: Rate of the first ``decay_epochs`` epochs.
        decay_epochs: Epochs between two decays.
        decay_factor: Factor of each decay, in [0, 1].
        steps_per_epoch: Updates per epoch.

    Returns:
        A function from the number of updates done so far, traced or not, to the rate of the next
        one; an array of JAX's default float type in both cases.
    """

    def schedule(count: ArrayLike) -> Array:
        # Two divisions, since the product of the divisors may not fit into 32 bits.
        num_decays = jnp.asarray(count) // steps_per_epoch // decay_epochs
        return learning_rate * decay_factor ** num_decays.astype(jnp.result_type(float))

    return schedule


def make_optimizer(
    name: OptimizerName, schedule: optax.Schedule, *, weight_decay: float, momentum: float = 0.9
) -> optax.GradientTransformation:
    """Return the optimizer; weight decay acts on all parameters, as in PyTorch.

    Args:
        name: ``"adamw"`` decays the weights beside the update; ``"adam-l2"`` is PyTorch's ``Adam``
            with ``weight_decay``, the paper's choice: the decay joins the gradient before the
            moments (coupled L2). ``"sgd"`` has Nesterov's momentum, and decays as that does.
        schedule: Learning rate by step.
        weight_decay: Coefficient of the decay.
        momentum: Of ``"sgd"``, in [0, 1).

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
    """Decay of the learning rate when the validation loss no longer falls.

    It has the values of Keras' ``ReduceLROnPlateau``. The share is a function of the losses so far
    and nothing else, so a resumed run needs no memory of it.

    Attributes:
        patience: Epochs without a better loss before a decay.
        factor: What the rate is multiplied by, in [0, 1].
        min_delta: By how much a loss has to be lower to be better.
    """

    patience: int
    factor: float
    min_delta: float = 1e-4

    def share(self, losses: Sequence[float]) -> float:
        """Return what the learning rate is multiplied by after epochs with these losses."""
        share, best, waited = 1.0, float("inf"), 0
        for loss in losses:
            if loss < best - self.min_delta:
                best, waited = loss, 0
                continue
            waited += 1
            if waited == self.patience:
                share, waited = share * self.factor, 0
        return share


class PlateauState(NamedTuple):
    """What :func:`scale_by_plateau` remembers."""

    plateau_share: Any
    """What updates are multiplied by, float32 ``[]``."""


def scale_by_plateau() -> optax.GradientTransformation:
    """Return what multiplies updates by a share that :func:`set_plateau_share` sets."""

    def update(updates: PyTree, state: PlateauState, _: PyTree) -> tuple[PyTree, PlateauState]:
        scaled = jax.tree.map(lambda u: u * state.plateau_share.astype(u.dtype), updates)
        return scaled, state

    return optax.GradientTransformation(lambda _: PlateauState(jnp.ones((), jnp.float32)), update)


def set_plateau_share(opt_state: PyTree, share: float) -> PyTree:
    """Return the state of an optimizer with another share of the learning rate."""
    old = optax.tree.get(opt_state, "plateau_share")
    return optax.tree.set(opt_state, plateau_share=jax.device_put(jnp.float32(share), old.sharding))


def train_head_only(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return the optimizer of a classifier whose backbone is frozen: no update and no state for it.

    Args:
        optimizer: Of the head.
    """
    return optax.multi_transform(
        {"head": optimizer, "backbone": optax.set_to_zero()},
        {"head": "head", "backbone": "backbone"},
    )
