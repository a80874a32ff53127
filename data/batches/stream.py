"""Prefetching of batches by threads and, on hosts with many cores, by processes.

Pillow releases Python's global interpreter lock (GIL) while it decodes and resizes, which is four
fifths of the time of a small JPEG and nearly all of a large one. So threads keep a few cores busy
with small images and dozens with large ones, without the start-up and the copies of processes. On
larger hosts there is one process, and thus one GIL, per eight cores.
"""

import os
import re
import signal
import sys
import weakref
from collections.abc import Callable, Iterator
from multiprocessing import parent_process
from threading import Thread
from typing import Any, Generic, TypeVar

import grain
from absl import flags

from lmf_jax.errors import TrainingStopped

Element = TypeVar("Element")


def _num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


NUM_PROCESSES = _num_cores() // 8 if _num_cores() >= 16 else 0
"""Number of additional processes that read a stream; 0 for threads of this process alone."""

_NUM_THREADS = min(_num_cores() + 1, 32) if NUM_PROCESSES == 0 else 9
DECODE_OPTIONS = grain.ReadOptions(num_threads=_NUM_THREADS, prefetch_buffer_size=_NUM_THREADS)
"""Options to decode blocks of images: one thread more than cores, so that all cores are busy."""

IN_MEMORY_OPTIONS = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
"""Options to copy blocks from memory, without threads, which would only add overhead."""


class Stream(Generic[Element]):
    """Iterator over the elements of a dataset with prefetching and a position.

    Args:
        elements: Dataset to read.
        options: Options of each process that reads.
        num_processes: Number of additional processes that read; they restart when a position is
            set.
    """

    def __init__(
        self, elements: grain.MapDataset, options: grain.ReadOptions, num_processes: int = 0
    ):
        self._elements = elements
        self._options = options
        self._num_processes = num_processes
        self._close: Callable[[], object] = lambda: None
        self.set_state({"next_index": 0})

    def __iter__(self) -> Iterator[Element]:
        return self

    def __next__(self) -> Element:
        """Return the next element.

        Raises:
            TrainingStopped: If a process that reads was killed.
        """
        try:
            element: Element = next(self._iterator)
        except RuntimeError as error:
            killed = re.match(r"Worker process was terminated .*(exit code -?\d+)", str(error))
            if killed is None:
                raise
            raise TrainingStopped(
                f"A process that reads images was killed ({killed[1]}), most likely because memory "
                "or /dev/shm ran out; make room, or decode once with --cache disk. A run goes on "
                "with --resume."
            ) from error
        self._next_index += 1
        return element

    def get_state(self) -> dict[str, Any]:
        """Return the position after the last element returned."""
        return {"next_index": self._next_index}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a position."""
        self._next_index = state["next_index"]
        rest = self._elements[self._next_index :].to_iter_dataset(self._options)
        if self._num_processes:
            if not flags.FLAGS.is_parsed():  # Grain reads flags, which only absl programs parse
                flags.FLAGS.mark_as_parsed()
            processes = grain.MultiprocessingOptions(self._num_processes, per_worker_buffer_size=2)
            rest = rest.mp_prefetch(processes, worker_init_fn=_live_and_die_with_parent)
        self._close()
        self._iterator = iter(rest)
        self._close = weakref.finalize(self, self._iterator.close)


def _live_and_die_with_parent(number: int, count: int) -> None:
    """Ignore Ctrl-C, and exit with the parent process even if that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(0)

    Thread(target=wait, daemon=True).start()
