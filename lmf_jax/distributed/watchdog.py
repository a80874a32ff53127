"""A thread that reports where a run waits if it waits too long.

One process that hangs blocks all processes of a run. Each reports its own activity, so the one with
another activity than the rest can be found.
"""

import sys
import threading
import time
import traceback

import jax

FRAMES = 8
"""Innermost frames of the stack in a report."""


class Watchdog:
    """Reports an activity that takes too long on standard error, at regular intervals."""

    def __init__(self, minutes: float) -> None:
        """Watch the calling thread.

        Args:
            minutes: Longest time of an activity; 0 turns the watchdog off.
        """
        self._seconds = 60 * minutes
        self._activity = "the start"
        self._started = time.monotonic()
        self._main = threading.get_ident()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        if minutes:
            self._thread.start()

    def start(self, activity: str) -> None:
        """Record the activity and restart the timer.

        Args:
            activity: The activity, as in "This process waits for ...".
        """
        self._activity, self._started = activity, time.monotonic()

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        last = self._started  # of the report, or of the activity if it has none yet
        while not self._closed.wait(min(1.0, self._seconds / 4)):
            last = max(last, self._started)
            if time.monotonic() - last >= self._seconds:
                self._report()
                last = time.monotonic()

    def _report(self) -> None:
        minutes = (time.monotonic() - self._started) / 60
        print(
            f"Process {jax.process_index()} of {jax.process_count()} has waited "
            f"{minutes:.1f} minutes for {self._activity}; with several processes, check the one "
            "that waits for something else than the others. It is here:\n"
            + "".join(traceback.format_stack(sys._current_frames()[self._main])[-FRAMES:]),
            file=sys.stderr,
            flush=True,
        )
