"""Fuzzing of every reader of untrusted files: ``python -m benchmarks.fuzz [TARGET ...]``.

A target reads files that Hypothesis derives from valid ones: flipped bits, overwritten lengths,
JSON of other types and any depth, inconsistent archives. It must return what its docstring promises
or refuse the file in one sentence, in bounded time and memory. Each target runs in a separate
process, since a C library may crash it. The first failing input is minimized and kept; ``--replay``
reads it again. Ctrl-C stops with the rows so far.
"""

import contextlib
import logging
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import tyro

from benchmarks.fuzzing.harness import attempt, explore
from benchmarks.fuzzing.targets import TARGETS, shares
from benchmarks.record import record
from lmf_jax.errors import UserError, run_command


@dataclass(frozen=True)
class Options:
    """Fuzz the readers of untrusted files."""

    targets: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Names of targets (default: all)."""
    inputs: int = 100_000
    """Total number of inputs; slow targets get fewer."""
    seed: int = 0
    """Seed of the inputs."""
    replay: str | None = None
    """The folder of a failing input, to read again with the one target that is named."""


def main() -> None:
    """Print a row per target, and the commands that replay failing inputs."""
    options = tyro.cli(Options)
    names = options.targets or tuple(TARGETS)
    for name in names:
        if name not in TARGETS:
            raise UserError(f"There is no target {name}; choose from {', '.join(TARGETS)}.")
    if options.replay is not None:
        if len(names) != 1:
            raise UserError("--replay needs the one target that failed.")
        print("refused" if attempt(TARGETS[names[0]], Path(options.replay)) else "read")
        return
    folder = Path(tempfile.mkdtemp(prefix="lmf-jax-fuzz-"))
    numbers = shares([TARGETS[name] for name in names], options.inputs)
    rows: list[dict[str, Any]] = []
    with contextlib.suppress(KeyboardInterrupt):
        for name, number in zip(names, numbers, strict=True):
            rows.append(run(name, number, options.seed, folder))
    left = names[len(rows) :]
    record("fuzz", rows, seed=options.seed, not_reached=left)
    failed = [row["target"] for row in rows if row["failure"]]
    for name in failed:
        print(f"python -m benchmarks.fuzz {name} --replay {folder / name}")
    sys.exit(bool(failed))


def run(name: str, inputs: int, seed: int, folder: Path) -> dict[str, Any]:
    """Explore a target in a separate process and return the row."""
    log = folder / f"{name}.txt"
    with ProcessPoolExecutor(1, get_context("spawn"), _quiet, (str(log),)) as pool:
        try:
            row = pool.submit(explored, name, inputs, seed, folder / name).result()
        except BrokenProcessPool:
            failure = f"the process ended, see {log}"
            row = {"target": name, "inputs": inputs, "values": "", "refusals": "", "seconds": ""}
            row |= {"slowest input, s": "", "failure": failure}
    print(row, flush=True)
    return row


def explored(name: str, inputs: int, seed: int, folder: Path) -> dict[str, Any]:
    """Explore a target in this process."""
    outcome = explore(TARGETS[name], inputs, seed, folder)
    failure = outcome.failure
    return {
        "target": name,
        "inputs": outcome.values + outcome.refusals + (failure is not None),
        "values": outcome.values,
        "refusals": outcome.refusals,
        "seconds": outcome.seconds,
        "slowest input, s": outcome.slowest,
        "failure": "" if failure is None else f"{type(failure).__name__}: {failure}"[:300],
    }


def _quiet(log: str) -> None:
    """Redirect the messages of libraries from the terminal to a file."""
    logging.disable(logging.CRITICAL)
    os.dup2(
        os.open(log, os.O_WRONLY | os.O_CREAT), sys.__stderr__.fileno() if sys.__stderr__ else 2
    )


if __name__ == "__main__":
    run_command("benchmarks.fuzz", main)
