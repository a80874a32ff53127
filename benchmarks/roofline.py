"""A model of how a data-parallel step scales over TPU chips; no chip is asked.

A step takes as long as its arithmetic or as its traffic with memory, whichever is longer, and then
waits for its all-reduces: nothing overlaps. All-reduces of B bytes over n chips go around one ring
in both directions, 2 (n-1)/n B over the two links of a chip that lie on it; the other links of the
chip are not used. And each has to get across: at least the hops between the two chips that are
farthest apart in a torus, each hop with a latency of its own.
"""

from dataclasses import dataclass

HOP_SECONDS = 1e-6
"""Latency of a link, whatever goes over it: Austin et al., "How to scale your model", part 3."""


@dataclass(frozen=True)
class Chip:
    """What a kind of chip is said to do at best."""

    flops: float
    """Floating-point operations a second, bfloat16."""
    memory_bandwidth: float
    """Bytes a second between the chip and its memory."""
    link_bandwidth: float
    """Bytes a second over one link to a neighbour, each way."""
    axes: int
    """Dimensions of the torus; a chip has two links along each."""


CHIPS = {
    "v5e": Chip(flops=197e12, memory_bandwidth=819e9, link_bandwidth=50e9, axes=2),
    "v4": Chip(flops=275e12, memory_bandwidth=1200e9, link_bandwidth=50e9, axes=3),
}
"""Google's pages on the architecture of Cloud TPU v5e (whose four links together have 1600 Gbit/s)
and v4; the six links of a v4 are those of Jouppi et al., "TPU v4", 2023, arXiv 2304.01433."""


def computation_seconds(chip: Chip, *, flops: float, accessed: float) -> float:
    """Return the time of a step on one chip, alone.

    Args:
        chip: That computes.
        flops: Operations of the step.
        accessed: Bytes that the step reads and writes.
    """
    return max(flops / chip.flops, accessed / chip.memory_bandwidth)


def transfer_seconds(chip: Chip, chips: int, *, reduced: float) -> float:
    """Return the time that the bytes of all all-reduces take on the links.

    Args:
        chip: Of which there are several.
        chips: Their number.
        reduced: Bytes that the all-reduces of a step sum up.
    """
    if chips == 1:
        return 0.0
    links = min(2, chips - 1)  # a chip that has one neighbour has one link
    return 2 * (chips - 1) / chips * reduced / (links * chip.link_bandwidth)


def latency_seconds(chip: Chip, chips: int, *, all_reduces: int) -> float:
    """Return the least time that the all-reduces of a step take one after the other, if empty.

    Args:
        chip: Of which there are several.
        chips: Their number, a power of two.
        all_reduces: Their number in a step.
    """
    doublings = chips.bit_length() - 1
    sides = [2 ** ((doublings + axis) // chip.axes) for axis in range(chip.axes)]
    return all_reduces * sum(side // 2 for side in sides) * HOP_SECONDS
