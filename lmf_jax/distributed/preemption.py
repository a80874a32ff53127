"""Stop requests: Ctrl-C (SIGINT), or the preemption of a machine by a cluster (SIGTERM).

The signal handler only records the request; the loop acts on it between two steps, when there is a
complete state to save. Several processes must stop at the same step, since all take part in saving:
if one process receives SIGTERM, JAX's preemption service informs the others and chooses the step.
"""

import os
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import jax
from jax.experimental import multihost_utils

from lmf_jax.errors import Interrupted, Preempted


def resume_command(run_dir: Path) -> str:
    """Return the command that continues the run in a folder."""
    return f"python train.py --resume --run-dir {shlex.quote(str(run_dir))}"


class StopRequest:
    """The request to stop this run, if there is one."""

    def __init__(self) -> None:
        """Start without a request."""
        self._received: signal.Signals | None = None

    def record(self, number: int) -> None:
        """Record the signal, and pass it on to the other processes."""
        self._received = signal.Signals(number)
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)  # JAX's preemption service listens for it

    @property
    def should_stop_now(self) -> bool:
        """Whether to stop during a validation; several processes stop only after a step."""
        return self._received is not None and jax.process_count() == 1

    def should_stop(self, step: int) -> bool:
        """Return whether to stop after this step; all processes must call it after every step."""
        if jax.process_count() == 1:
            return self._received is not None
        return multihost_utils.reached_preemption_sync_point(step)

    def interruption(self, run_dir: Path, step: int, steps_per_epoch: int) -> Interrupted:
        """Return the exception to raise when the state after this step is saved."""
        kind = Interrupted if self._received == signal.SIGINT else Preempted
        epoch = max(step - 1, 0) // steps_per_epoch + 1
        return kind(
            f"Stopped and saved after step {step} (epoch {epoch}); continue with: "
            f"{resume_command(run_dir)}"
        )


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Record the first Ctrl-C or SIGTERM; a second signal gets the default handling.

    With several processes, JAX handles SIGTERM.
    """
    request = StopRequest()
    numbers = [signal.SIGINT] if jax.process_count() > 1 else [signal.SIGINT, signal.SIGTERM]
    before = {number: signal.getsignal(number) for number in numbers}

    def on_signal(number: int, frame: FrameType | None) -> None:
        signal.signal(number, before[signal.Signals(number)])
        request.record(number)

    for number in numbers:
        signal.signal(number, on_signal)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
