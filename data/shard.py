"""Shard of a batch that a process reads."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shard:
    """Shard of a process.

    Attributes:
        process_index: Index of the process.
        process_count: Number of processes.
    """

    process_index: int = 0
    process_count: int = 1


def block_of(batch_size: int, process_index: int, process_count: int) -> slice:
    """Return the block of a global batch that a process reads; all blocks are equal.

    Args:
        batch_size: Global batch size, a multiple of ``process_count``.
        process_index: Index of the process.
        process_count: Number of processes.

    Raises:
        ValueError: If the batch size is not divisible, or there is no such process.
    """
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            f"A batch of {batch_size} examples cannot be divided equally among {process_count} "
            "processes; choose a multiple."
        )
    if not 0 <= process_index < process_count:
        raise ValueError(f"There is no process {process_index} among {process_count}.")
    size = batch_size // process_count
    return slice(process_index * size, (process_index + 1) * size)
