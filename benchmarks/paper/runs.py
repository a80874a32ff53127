"""The runs behind a table: where they lie, and the workers that train what is missing.

Any number of workers, on any number of machines that see one folder, may train the same runs at
once. A run belongs to whom holds the lock of its folder; the lock goes with its holder, so the run
of a worker that died is taken up by the next, where its last checkpoint left it.
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
"""How often a worker that has nothing left looks after the runs of others."""


@dataclass(frozen=True)
class Run:
    """One training of a table.

    Attributes:
        name: What a person reads: loss, weights and seed.
        folder: Its run folder.
        flags: The words for ``train.py`` that say what is trained.
        places: Those that say where its data lie, which depend on the machine.
    """

    name: str
    folder: Path
    flags: tuple[str, ...]
    places: tuple[str, ...] = ()

    @property
    def is_finished(self) -> bool:
        """Whether it was trained and tested."""
        return (self.folder / "test.json").is_file()


@dataclass(frozen=True)
class Recipe:
    """What all runs of a table have in common.

    Attributes:
        dataset: Name of the dataset.
        model: Name of the model.
        settings: Further words for ``train.py``.
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
            loss: A name that ``--loss`` takes.
            weights: Alpha and beta of "lmf"; None for another loss.
            seed: Of the training; the split has its own.
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
    """Train every run that is not finished, and return when all are or have failed.

    A run that another worker holds is passed over, and looked at again at the end.

    Args:
        runs: The runs wanted.
        command: Begins the command line that trains one.

    Returns:
        The runs that failed here; what they said stands above in the output.

    Raises:
        Interrupted: If a person ended a run; it is saved.
        UserError: If the disk knows no locks.
    """
    failed: list[Run] = []
    waiting = [run for run in runs if not run.is_finished]
    while waiting:
        held = []
        for run in waiting:
            with claim(run.folder) as lock:
                if lock is None:
                    held.append(run)
                # Another worker may have finished it since the last look.
                elif not run.is_finished and not train(run, lock, command):
                    failed.append(run)
        if len(held) == len(waiting):
            time.sleep(POLL_SECONDS)
        waiting = held
    return failed


@contextlib.contextmanager
def claim(folder: Path, *, wait: bool = False) -> Iterator[int | None]:
    """Hold the right to write into a folder, if no one else does.

    Args:
        folder: Of a run; the folder above it is made.
        wait: Until whoever holds it lets go.

    Yields:
        The descriptor of the lock, or None if another worker holds it.

    Raises:
        UserError: If the disk knows no locks.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "a") as file:
        yield file.fileno() if _lock(file.fileno(), folder.parent, wait) else None


def _lock(descriptor: int, folder: Path, wait: bool) -> bool:
    """Take the lock; return whether nobody else holds it."""
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
    """Start a run, or go on with it where it stopped.

    Args:
        run: Not finished, and claimed.
        lock: Descriptor of the claim. The training holds it too: should this worker be killed and
            the training live on, nobody else may have the run.
        command: Begins the command line that trains.

    Returns:
        Whether it was trained and tested.

    Raises:
        Interrupted: If a person ended it.
    """
    words = [*command, *run.flags, *run.places, "--run-dir", str(run.folder)]
    if (run.folder / "config.json").is_file():
        words.append("--resume")
    elif run.folder.exists():
        shutil.rmtree(run.folder)  # killed before it had begun
    print(f"{run.name}: {shlex.join(words)}", flush=True)
    with subprocess.Popen(words, pass_fds=(lock,)) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.wait()  # the training got the same Ctrl-C: it saves, and then it ends
            raise
    if code == Interrupted.exit_code:
        raise Interrupted(f"{run.name} was stopped; run the same command to go on with it.")
    if code or not run.is_finished:
        print(f"{run.name} failed with exit code {code}", file=sys.stderr, flush=True)
    return run.is_finished
