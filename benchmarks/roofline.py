"""A roofline model of the scaling of a data-parallel step over TPU chips.

The time of a step is that of its arithmetic or its memory traffic, whichever is longer, plus that
of its all-reduces: nothing overlaps. All-reduces of B bytes over n chips go around one ring in both
directions and move 2 (n-1)/n B over two links of each chip; the other links are idle. Their latency
is at least that of the hops between the two most distant chips of the torus.
"""

from dataclasses import dataclass

HOP_SECONDS = 1e-6
"""Latency of a link: Austin et al., "How to scale your model", part 3."""


@dataclass(frozen=True)
class Chip:
    """Peak figures of a kind of chip."""

    flops: float
    """Floating-point operations per second, bfloat16."""
    memory_bandwidth: float
    """Bytes per second between the chip and its memory."""
    link_bandwidth: float
    """Bytes per second over one link to a neighbor, each way."""
    axes: int
    """Dimensions of the torus; a chip has two links along each."""


CHIPS = {
    "v5e": Chip(flops=197e12, memory_bandwidth=819e9, link_bandwidth=50e9, axes=2),
    "v4": Chip(flops=275e12, memory_bandwidth=1200e9, link_bandwidth=50e9, axes=3),
}
"""Google's pages on the architecture of Cloud TPU v5e (whose four links together have 1600 Gbit/s)
and v4; the six links of a v4 are those of Jouppi et al., "TPU v4", 2023, arXiv 2304.01433."""


def computation_seconds(chip: Chip, *, flops: float, accessed: float) -> float:
    """Return the time of a step on one chip.

    Args:
        chip: The kind of chip.
        flops: Operations of the step.
        accessed: Bytes that the step reads and writes.
    """
    return max(flops / chip.flops, accessed / chip.memory_bandwidth)


def transfer_seconds(chip: Chip, chips: int, *, reduced: float) -> float:
    """Return the transfer time of the all-reduces of a step.

    Args:
        chip: The kind of chip.
        chips: Number of chips.
        reduced: Bytes that the all-reduces of a step sum.
    """
    if chips == 1:
        return 0.0
    links = min(2, chips - 1)  # a chip with one neighbor has one link
    return 2 * (chips - 1) / chips * reduced / (links * chip.link_bandwidth)


def latency_seconds(chip: Chip, chips: int, *, all_reduces: int) -> float:
    """Return the latency of the all-reduces of a step, one after the other.

    Args:
        chip: The kind of chip.
        chips: Number of chips, a power of two.
        all_reduces: Number of all-reduces in a step.
    """
    doublings = chips.bit_length() - 1
    sides = [2 ** ((doublings + axis) // chip.axes) for axis in range(chip.axes)]
    return all_reduces * sum(side // 2 for side in sides) * HOP_SECONDS
