"""All targets by name, and the number of inputs of each."""

from collections.abc import Sequence

from benchmarks.fuzzing import (
    dicom,
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
"""Smallest number of inputs of a target."""

TARGETS = {
    target.name: target
    for module in (images, dicom, labels, prepared, volumes, weights, runs, segmentations)
    for target in module.TARGETS
}


def shares(targets: Sequence[Target], inputs: int) -> list[int]:
    """Divide inputs over targets in inverse proportion to their cost."""
    whole = sum(1 / target.cost for target in targets)
    return [max(FEWEST, round(inputs / target.cost / whole)) for target in targets]
