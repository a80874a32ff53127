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
    """Training progress in whole steps.

    Whole steps are compared exactly. A quotient of steps in float32 is rounded, and falls on the
    wrong side of some thresholds.

    Attributes:
        step: Updates done so far, an integer, traced or not.
        total_steps: Updates of the whole training.
    """

    step: Any  # not int: tree transformations put other objects here
    total_steps: int


Progress = Scalar | TrainingProgress
"""Training progress, exact or as a fraction in [0, 1]."""


def first_step(fraction: float, total_steps: int) -> int:
    """Return the number of updates after which a fraction of training is over.

    The fraction is read as the decimal number that it is printed as, so 0.8 is exactly 4/5 and not
    the nearest binary number.

    Args:
        fraction: In [0, 1].
        total_steps: Updates of the whole training.
    """
    return math.ceil(Fraction(str(fraction)) * total_steps)


def has_reached(progress: Progress, fraction: float) -> Any:
    """Return whether a fraction of training is over, as a boolean, traced if the progress is.

    Progress in floats may be below the fraction by :data:`ROUNDING`.

    Args:
        progress: Training progress.
        fraction: In [0, 1].
    """
    if isinstance(progress, TrainingProgress):
        return progress.step >= first_step(fraction, progress.total_steps)
    return progress >= fraction - ROUNDING
