"""Training progress in whole steps, and exact thresholds at a fraction of training."""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import jax

from lmf_jax.losses.checks import Scalar

ROUNDING = 2.0**-22
"""Tolerance for a fraction of training in float32: the division is rounded up to three times."""


@partial(jax.tree_util.register_dataclass, data_fields=("step",), meta_fields=("total_steps",))
@dataclass(frozen=True)
class TrainingProgress:
    """The progress of a training in whole steps.

    A quotient of steps is rounded, and in float32 lies on the wrong side of some thresholds; whole
    steps are compared exactly.

    Attributes:
        step: updates done so far, an integer, traced or not.
        total_steps: updates of the whole training.
    """

    step: Any  # tree transformations put other things than integers here
    total_steps: int


Progress = Scalar | TrainingProgress
"""The progress of a training, exact or as the share in [0, 1] that is over."""


def first_step(share: float, total_steps: int) -> int:
    """Return the number of updates after which a share of a training is over.

    It is exact: the share is the decimal number that it is written as, so that 0.8 is 4/5 and not
    the binary number next to it.

    Args:
        share: in [0, 1].
        total_steps: updates of the whole training.
    """
    return math.ceil(Fraction(str(share)) * total_steps)


def has_reached(progress: Progress, share: float) -> Any:
    """Return whether a share of the training is over, a boolean, traced if the progress is.

    A progress in floats counts as there when it is less than :data:`ROUNDING` below.

    Args:
        progress: of the training.
        share: in [0, 1].
    """
    if isinstance(progress, TrainingProgress):
        return progress.step >= first_step(share, progress.total_steps)
    return progress >= share - ROUNDING
