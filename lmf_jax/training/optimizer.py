"""The optimizer and the step decay of its learning rate."""

from typing import Literal

import optax


def step_decay(
    learning_rate: float, *, decay_epochs: int, decay_factor: float, steps_per_epoch: int
) -> optax.Schedule:
    """Return the schedule that multiplies the rate by a factor every so many epochs.

    It has the values of PyTorch's ``StepLR(decay_epochs, decay_factor)`` stepped once an epoch.

    Args:
        learning_rate: rate of the first ``decay_epochs`` epochs.
        decay_epochs: epochs between two decays.
        decay_factor: what the rate is multiplied by, in [0, 1].
        steps_per_epoch: updates per epoch.
    """
    if decay_factor == 0:  # exponential_decay takes 0 for "no decay"
        return optax.piecewise_constant_schedule(learning_rate, {decay_epochs * steps_per_epoch: 0})
    return optax.exponential_decay(
        learning_rate, decay_epochs * steps_per_epoch, decay_factor, staircase=True
    )


def make_optimizer(
    name: Literal["adamw", "adam-l2"], schedule: optax.Schedule, *, weight_decay: float
) -> optax.GradientTransformation:
    """Return the optimizer; weight decay acts on all parameters, as in PyTorch.

    Args:
        name: ``"adamw"`` decays the weights beside the update; ``"adam-l2"`` is PyTorch's ``Adam``
            with ``weight_decay``, the paper's choice: the decay joins the gradient before the
            moments (coupled L2).
        schedule: learning rate by step.
        weight_decay: coefficient of the decay.

    Raises:
        ValueError: if the name is unknown.
    """
    if name == "adamw":
        return optax.adamw(schedule, weight_decay=weight_decay)
    if name == "adam-l2":
        return optax.chain(
            optax.add_decayed_weights(weight_decay),
            optax.scale_by_adam(),
            optax.scale_by_learning_rate(schedule),
        )
    raise ValueError(f"Unknown optimizer {name!r}; expected adamw or adam-l2.")


def train_head_only(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return the optimizer of a classifier whose backbone is frozen: no update and no state for it.

    Args:
        optimizer: of the head.
    """
    return optax.multi_transform(
        {"head": optimizer, "backbone": optax.set_to_zero()},
        {"head": "head", "backbone": "backbone"},
    )
