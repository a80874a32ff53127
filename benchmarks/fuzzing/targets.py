"""All targets by name, and how many inputs each gets of so many in all."""

from collections.abc import Sequence

from benchmarks.fuzzing import (
    images,
    labels,
    prepared,
    runs,
    segmentations,
    volumes,
    weights,
)
from benchmarks.fuzzing.harness import Target

FEWEST = 5
"""Inputs that every target gets."""

TARGETS = {
    target.name: target
    for module in (images, labels, prepared, volumes, weights, runs, segmentations)
    for target in module.TARGETS
}


def shares(targets: Sequence[Target], inputs: int) -> list[int]:
    """Divide inputs over targets by what one costs, so that each has about as much time."""
    whole = sum(1 / target.cost for target in targets)
    return [max(FEWEST, round(inputs / target.cost / whole)) for target in targets]
