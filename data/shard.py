"""Which part of a batch a process reads."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shard:
    """Which process this is, of how many.

    Attributes:
        process_index: Its number.
        process_count: Number of processes.
    """

    process_index: int = 0
    process_count: int = 1


def block_of(batch_size: int, process_index: int, process_count: int) -> slice:
    """Return which examples of a global batch are a process's: one of equal blocks.

    Args:
        batch_size: Global batch size, a multiple of ``process_count``.
        process_index: The process's number.
        process_count: Number of processes.

    Raises:
        ValueError: If the batch does not divide, or there is no such process.
    """
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            f"A batch of {batch_size} examples cannot be shared equally by {process_count} "
            "processes; choose a multiple."
        )
    if not 0 <= process_index < process_count:
        raise ValueError(f"There is no process {process_index} among {process_count}.")
    size = batch_size // process_count
    return slice(process_index * size, (process_index + 1) * size)
