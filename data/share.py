"""Which part of a batch a process reads."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """Which process this is, of how many.

    Attributes:
        process_index: Its number.
        process_count: Number of processes.
    """

    process_index: int = 0
    process_count: int = 1
