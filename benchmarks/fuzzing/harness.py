"""The fuzzing harness: targets, their limits, and the search for failing inputs.

A target must return what its docstring promises or refuse the file in one sentence, in bounded time
and memory. Anything else is a failure, whose input Hypothesis minimizes.
"""

import contextlib
import faulthandler
import resource
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis.strategies import SearchStrategy

from lmf_jax.errors import UserError

Files = Mapping[str, bytes]
"""An input: the contents of files by their path in a folder."""

MEMORY = 2**29
"""Bytes that a target may allocate; valid inputs need far less."""
SLOW = 30.0
"""Seconds after which an input counts as a failure, with a margin for a busy machine."""
HANGING = 120.0
"""Seconds after which the process is ended, since C code cannot be interrupted."""


@dataclass(frozen=True)
class Target:
    """A reader of untrusted files.

    Attributes:
        name: Its name on the command line.
        inputs: A function that returns the strategy of its inputs.
        read: A function that reads the files in a folder and checks the result.
        cost: Time of an input in units of the fast targets.
    """

    name: str
    inputs: Callable[[], SearchStrategy[Files]]
    read: Callable[[Path], object]
    cost: int = 1


@dataclass
class Outcome:
    """The outcome of fuzzing a target.

    Attributes:
        values: Number of inputs that were read.
        refusals: Number of inputs that were refused.
        seconds: Total time.
        slowest: Seconds of the slowest input.
        failure: The failure on the minimized input, None if there is none.
    """

    values: int = 0
    refusals: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    failure: BaseException | None = None


def explore(target: Target, inputs: int, seed: int, folder: Path) -> Outcome:
    """Fuzz a target.

    Args:
        target: The target.
        inputs: Number of inputs.
        seed: Seed of the inputs.
        folder: The folder of the current input; a failing one is left there.
    """
    outcome = Outcome()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=inputs,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        verbosity=hypothesis.Verbosity.quiet,
    )
    @hypothesis.given(target.inputs())
    def attempt_each(files: Files) -> None:
        write(files, folder)
        began = time.perf_counter()
        refused = attempt(target, folder)
        outcome.slowest = max(outcome.slowest, time.perf_counter() - began)
        outcome.refusals += refused
        outcome.values += not refused

    started = time.perf_counter()
    try:
        with limited_memory(MEMORY):
            attempt_each()
    except Exception as failure:  # the result of the search
        outcome.failure = failure
    finally:
        faulthandler.cancel_dump_traceback_later()
    outcome.seconds = time.perf_counter() - started
    return outcome


def attempt(target: Target, folder: Path) -> bool:
    """Let a target read a folder; return whether it refused.

    Raises:
        AssertionError: If it took too much time or memory, or refused in more than a sentence.
        Exception: If the target raises anything but a refusal.
    """
    faulthandler.dump_traceback_later(HANGING, exit=True, file=sys.__stderr__ or 2)
    started = time.perf_counter()
    refused = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings are not errors in a command either
        try:
            target.read(folder)
        except UserError as error:
            refused = True
            _check_refusal(error)
    seconds = time.perf_counter() - started
    assert seconds < SLOW, f"{seconds:.0f} seconds"
    return refused


def write(files: Files, folder: Path) -> None:
    """Replace the contents of a folder by these files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@contextlib.contextmanager
def limited_memory(size: int) -> Iterator[None]:
    """Limit the memory that this process can still allocate to ``size`` bytes, on Linux."""
    if sys.platform != "linux":
        yield
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def no_memory_error(error: BaseException | None) -> None:
    """Assert that an error was not caused by lack of memory: large files must be refused first."""
    cause = error
    while cause is not None:
        assert not isinstance(cause, MemoryError), f"it ran out of memory: {error}"
        cause = cause.__cause__ or cause.__context__


def _check_refusal(error: UserError) -> None:
    no_memory_error(error)
    message = str(error)
    assert message.isprintable(), f"not one printable line: {message!r}"
    assert len(message) < 5000, f"{len(message)} characters: {message[:200]}"
