"""Being told to stop: by Ctrl-C (SIGINT), or by a cluster that takes the machine back (SIGTERM).

The signal only makes a note; the loop acts on it between two steps, when there is something whole
to save. Several processes have to stop at the same step, since saving takes all of them: there
JAX's preemption service tells all of them of a SIGTERM to any, and agrees on the step.
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


class StopRequest:
    """Whether somebody asked this run to stop."""

    def __init__(self) -> None:
        """Nobody asked yet."""
        self._received: signal.Signals | None = None

    def note(self, number: int) -> None:
        """Remember the signal; several processes are all told."""
        self._received = signal.Signals(number)
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)

    @property
    def should_stop_now(self) -> bool:
        """Whether this process, alone, may stop at once."""
        return self._received is not None and jax.process_count() == 1

    def should_stop(self, step: int) -> bool:
        """Return whether to stop after this step; to be asked by all processes after every step."""
        if jax.process_count() == 1:
            return self._received is not None
        return multihost_utils.reached_preemption_sync_point(step)

    def interruption(self, run_dir: Path, step: int, steps_per_epoch: int) -> Interrupted:
        """Return what to raise once the state after this step is saved."""
        kind = Interrupted if self._received == signal.SIGINT else Preempted
        epoch = max(step - 1, 0) // steps_per_epoch + 1
        return kind(
            f"Stopped and saved after step {step} (epoch {epoch}); go on with: "
            f"python train.py --resume --run-dir {shlex.quote(str(run_dir))}"
        )


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Note the first Ctrl-C or SIGTERM within the block; a second one acts as it would without.

    Of several processes, SIGTERM is left to JAX, which listens to it since they met.
    """
    request = StopRequest()
    numbers = [signal.SIGINT] if jax.process_count() > 1 else [signal.SIGINT, signal.SIGTERM]
    before = {number: signal.getsignal(number) for number in numbers}

    def on_signal(number: int, frame: FrameType | None) -> None:
        signal.signal(number, before[signal.Signals(number)])
        request.note(number)

    for number in numbers:
        signal.signal(number, on_signal)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
