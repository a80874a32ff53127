"""The runs of a table: their folders, and the workers that train missing runs.

Any number of workers, on any number of machines with a common folder, may train the same runs at
once. A worker holds the lock of the run that it trains. The lock is released when the worker dies,
and the next worker resumes the run from its last checkpoint.
"""

import contextlib
import fcntl
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmf_jax.errors import Interrupted, UserError

TRAIN = (sys.executable, str(Path(__file__).parents[2] / "train.py"))
"""The command that trains."""

POLL_SECONDS = 10.0
"""Seconds between two checks for runs that other workers have left unfinished."""


@dataclass(frozen=True)
class Run:
    """One training of a table.

    Attributes:
        name: Loss, weights and seed, for messages.
        folder: The run folder.
        flags: The flags of ``train.py`` that define the run.
        places: The flags with folders, which depend on the machine.
    """

    name: str
    folder: Path
    flags: tuple[str, ...]
    places: tuple[str, ...] = ()

    @property
    def is_finished(self) -> bool:
        """Whether the run was trained and tested."""
        return (self.folder / "test.json").is_file()


@dataclass(frozen=True)
class Recipe:
    """The common settings of all runs of a table.

    Attributes:
        dataset: Name of the dataset.
        model: Name of the model.
        settings: Further flags of ``train.py``.
        runs_dir: The folder of all runs.
        data_dir: The folder of prepared datasets.
    """

    dataset: str
    model: str
    settings: tuple[str, ...]
    runs_dir: Path
    data_dir: str

    @property
    def settings_name(self) -> str:
        """The settings as the name of a folder."""
        words = (word if word.startswith("--") else Path(word).name for word in self.settings)
        name = " ".join(words).removeprefix("--").replace(" --", "_")
        return re.sub(r"[^\w.,_-]+", "-", name) or "defaults"

    def run(self, loss: str, weights: tuple[float, float] | None, seed: int) -> Run:
        """Return the run of a loss with a seed.

        Args:
            loss: A name of ``--loss``.
            weights: Alpha and beta of "lmf"; None for another loss.
            seed: Seed of the training, not of the split.
        """
        flags = ["--dataset", self.dataset, "--model", self.model, "--split", "paper"]
        flags += [*self.settings, "--loss", loss]
        name = title = loss
        if weights is not None:
            alpha, beta = (f"{weight:g}" for weight in weights)
            flags += ["--alpha", alpha, "--beta", beta]
            name, title = f"{loss}-alpha-{alpha}-beta-{beta}", f"{loss} {alpha},{beta}"
        parent = self.runs_dir / self.dataset / self.model / self.settings_name / name
        return Run(
            name=f"{title}, seed {seed}",
            folder=parent / f"seed-{seed}",
            flags=(*flags, "--seed", str(seed)),
            places=("--data-dir", self.data_dir),
        )


def train_missing(runs: Sequence[Run], command: Sequence[str] = TRAIN) -> list[Run]:
    """Train all unfinished runs; return when every run is finished or has failed.

    Runs of other workers are skipped, and checked again at the end.

    Args:
        runs: All runs.
        command: The start of the command line of a run.

    Returns:
        The runs that failed here.

    Raises:
        Interrupted: If the user stopped a run; it is saved.
        UserError: If the disk has no locks.
    """
    failed: list[Run] = []
    waiting = [run for run in runs if not run.is_finished]
    while waiting:
        held = []
        for run in waiting:
            with claim(run.folder) as lock:
                if lock is None:
                    held.append(run)
                # Another worker may have finished it since the last check.
                elif not run.is_finished and not train(run, lock, command):
                    failed.append(run)
        if len(held) == len(waiting):
            time.sleep(POLL_SECONDS)
        waiting = held
    return failed


@contextlib.contextmanager
def claim(folder: Path, *, wait: bool = False) -> Iterator[int | None]:
    """Hold the lock of a run folder, if no other worker does.

    Args:
        folder: The run folder; its parent is made.
        wait: Wait for the lock.

    Yields:
        The descriptor of the lock, or None if another worker holds it.

    Raises:
        UserError: If the disk has no locks.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "a") as file:
        yield file.fileno() if _lock(file.fileno(), folder.parent, wait) else None


def _lock(descriptor: int, folder: Path, wait: bool) -> bool:
    """Take the lock; return False if another process holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(
            f"{folder} is on a disk without locks ({error.strerror}), so workers would train over "
            "each other; give another --runs-dir."
        ) from error
    return True


def train(run: Run, lock: int, command: Sequence[str] = TRAIN) -> bool:
    """Start or resume a run.

    Args:
        run: An unfinished run whose lock is held.
        lock: The descriptor of the lock. The training inherits it, so the run stays locked if this
            worker is killed and the training is not.
        command: The start of the command line.

    Returns:
        Whether the run was trained and tested.

    Raises:
        Interrupted: If the user stopped the run.
    """
    words = [*command, *run.flags, *run.places, "--run-dir", str(run.folder)]
    if (run.folder / "config.json").is_file():
        words.append("--resume")
    elif run.folder.exists():
        shutil.rmtree(run.folder)  # killed before it started
    print(f"{run.name}: {shlex.join(words)}", flush=True)
    with subprocess.Popen(words, pass_fds=(lock,)) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.wait()  # the training got the same Ctrl-C, and saves before it exits
            raise
    if code == Interrupted.exit_code:
        raise Interrupted(f"{run.name} was stopped; run the same command to continue it.")
    if code or not run.is_finished:
        print(f"{run.name} failed with exit code {code}", file=sys.stderr, flush=True)
    return run.is_finished
