"""A thread that says where a run waits, when it waits too long.

Of several processes that train together, one that hangs holds up all of them, and from outside
all look alike. Each says for itself what it does: the odd one out is the one to look at.
"""

import sys
import threading
import time
import traceback

import jax

FRAMES = 8
"""Innermost calls that are shown of the thread that waits."""


class Watchdog:
    """Says on standard error, again and again, what has been going on for too long."""

    def __init__(self, minutes: float) -> None:
        """Start to watch the thread that calls this.

        Args:
            minutes: How long one thing may take; 0 watches nothing.
        """
        self._seconds = 60 * minutes
        self._doing = "the start"
        self._since = time.monotonic()
        self._main = threading.get_ident()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        if minutes:
            self._thread.start()

    def now(self, doing: str) -> None:
        """Begin another thing.

        Args:
            doing: What it is, as in "This process waits for ...".
        """
        self._doing, self._since = doing, time.monotonic()

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        told = self._since
        while not self._closed.wait(min(1.0, self._seconds / 4)):
            told = max(told, self._since)
            if time.monotonic() - told >= self._seconds:
                self._tell()
                told = time.monotonic()

    def _tell(self) -> None:
        minutes = (time.monotonic() - self._since) / 60
        print(
            f"Process {jax.process_index()} of {jax.process_count()} has waited for "
            f"{minutes:.1f} minutes for {self._doing}; of several processes, look at the one that "
            "waits for something else than the others. It is here:\n"
            + "".join(traceback.format_stack(sys._current_frames()[self._main])[-FRAMES:]),
            file=sys.stderr,
            flush=True,
        )
