"""A reader, the bad files that it is given, and what it may not do with any of them.

A reader returns what its docstring promises or refuses the file in one sentence, in bounded time
and memory. What else it does is a failure; Hypothesis reduces the input to the least that fails.
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
"""An input: the content of files by their path below a folder."""

MEMORY = 2**29
"""Bytes that a reader may ask for beyond what the process has; good inputs are far smaller."""
SLOW = 30.0
"""Seconds from which an input counts as a failure, on a machine that does other things too."""
HANGING = 120.0
"""Seconds after which the process is ended: code in C is not interrupted otherwise."""


@dataclass(frozen=True)
class Target:
    """A reader of bytes from outside.

    Attributes:
        name: What it reads.
        inputs: Makes the strategy of its inputs; it writes and loads what is needed for that.
        read: Reads the files below a folder and checks what the reader promises of the result.
        cost: How many inputs of other targets take as long.
    """

    name: str
    inputs: Callable[[], SearchStrategy[Files]]
    read: Callable[[Path], object]
    cost: int = 1


@dataclass
class Outcome:
    """What a target did with its inputs.

    Attributes:
        values: Inputs that were read.
        refusals: Inputs that were refused.
        seconds: In all.
        slowest: Seconds of the slowest input.
        failure: What it did that it may not do, with the input reduced; None if nothing.
    """

    values: int = 0
    refusals: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    failure: BaseException | None = None


def explore(target: Target, inputs: int, seed: int, folder: Path) -> Outcome:
    """Give a target so many inputs, the same for the same seed.

    Args:
        target: The reader.
        inputs: How many.
        seed: Decides which.
        folder: Where they are written, one after the other; a failing one is left there.
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
    except Exception as failure:  # of whatever kind: that is what is looked for
        outcome.failure = failure
    finally:
        faulthandler.cancel_dump_traceback_later()
    outcome.seconds = time.perf_counter() - started
    return outcome


def attempt(target: Target, folder: Path) -> bool:
    """Let a target read what lies in a folder; return whether it refused.

    Raises:
        AssertionError: If it took too long or too much memory, or refused in more than a sentence.
        Exception: What the reader raises and may not.
    """
    faulthandler.dump_traceback_later(HANGING, exit=True, file=sys.__stderr__ or 2)
    started = time.perf_counter()
    refused = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as they are no errors in a command either
        try:
            target.read(folder)
        except UserError as error:
            refused = True
            _check_refusal(error)
    seconds = time.perf_counter() - started
    assert seconds < SLOW, f"{seconds:.0f} seconds"
    return refused


def write(files: Files, folder: Path) -> None:
    """Make a folder hold these files and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@contextlib.contextmanager
def limited_memory(size: int) -> Iterator[None]:
    """Make this process fail rather than ask for so many bytes more; only Linux can."""
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
    """Complain of an error that comes of memory: what is too large is refused before it is read."""
    seen = error
    while seen is not None:
        assert not isinstance(seen, MemoryError), f"it ran out of memory: {error}"
        seen = seen.__cause__ or seen.__context__


def _check_refusal(error: UserError) -> None:
    no_memory_error(error)
    message = str(error)
    assert message.isprintable(), f"not one printable line: {message!r}"
    assert len(message) < 5000, f"{len(message)} characters: {message[:200]}"
