"""The Optuna study of alpha and beta, shared by any number of workers.

A trial is alive while a worker holds the lock of its run. This works with every storage of Optuna,
and a trial is available again as soon as its worker dies.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sqlalchemy.pool import NullPool

from benchmarks.paper import runs
from benchmarks.paper.reproduced import read_group
from benchmarks.paper.runs import Recipe, Run, claim

Weights = tuple[float, float]
"""Alpha and beta."""


@dataclass(frozen=True)
class Taken:
    """A trial of this worker, with its run and the descriptor of the run's lock."""

    trial: optuna.Trial
    run: Run
    lock: int


class Sweep:
    """The trials of a recipe with a seed."""

    def __init__(self, storage: str, recipe: Recipe, seed: int, grid: Sequence[Weights]) -> None:
        """Open or create the study.

        Args:
            storage: The URL of a database, or the path of a journal.
            recipe: The common settings of all runs.
            seed: Seed of the training.
            grid: The weights to try, each once.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._recipe, self._seed, self._grid = recipe, seed, grid
        name = "/".join((recipe.dataset, recipe.model, recipe.settings_name, f"seed-{seed}"))
        self._lock = recipe.runs_dir / f"{name.replace('/', '-')}.study"
        with claim(self._lock, wait=True):
            self.study = optuna.create_study(
                storage=_open(storage), study_name=name, direction="maximize", load_if_exists=True
            )

    def run(self, weights: Weights) -> Run:
        """Return the run of a pair of weights."""
        return self._recipe.run("lmf", weights, self._seed)

    def scores(self) -> dict[Weights, float]:
        """Return the best validation macro F1 of every completed pair, in the order of the grid."""
        told = self._trials(TrialState.COMPLETE)
        found = {_weights(trial.params): trial.values[0] for trial in told}
        return {weights: found[weights] for weights in self._grid if weights in found}

    def work(self, command: Sequence[str] = runs.TRAIN) -> None:
        """Take trials until all are completed, by this worker or another.

        A pair whose run failed in an earlier call is tried again.

        Args:
            command: The start of the command line of a run.

        Raises:
            Interrupted: If the user stopped a run; it is saved, and its trial is available again.
        """
        with claim(self._lock, wait=True):
            known = self._trials(TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING)
            tried = {_weights(trial.user_attrs) for trial in known}
            for weights in self._grid:
                if weights not in tried:
                    self._enqueue(weights)
        while self._trials(TrialState.WAITING, TrialState.RUNNING):
            with self.take() as taken:
                if taken is not None:
                    self._finish(taken, command)
            if taken is None:
                time.sleep(runs.POLL_SECONDS)  # others still train

    def _finish(self, taken: Taken, command: Sequence[str]) -> None:
        if taken.run.is_finished or runs.train(taken.run, taken.lock, command):
            weights = _weights(taken.trial.params)
            group = read_group("lmf", weights, {self._seed: taken.run})
            assert group is not None
            self.study.tell(taken.trial, group.validation_macro_f1, skip_if_finished=True)
        else:
            self.study.tell(taken.trial, state=TrialState.FAIL, skip_if_finished=True)

    @contextlib.contextmanager
    def take(self) -> Iterator[Taken | None]:
        """Take the next trial and hold the lock of its run.

        Yields:
            The trial; None if none is waiting.
        """
        with contextlib.ExitStack() as held:
            # One worker at a time: then a running trial without a lock has lost its worker.
            with claim(self._lock, wait=True):
                self._bring_back_dead()
                trial = self._next_trial()
                run = None if trial is None else self.run(_weights(trial.params))
                lock = None if run is None else held.enter_context(claim(run.folder))
            if trial is None or run is None:
                yield None
                return
            if lock is None:  # another command trains it, such as paper_tables
                lock = held.enter_context(claim(run.folder, wait=True))
            assert lock is not None
            yield Taken(trial, run, lock)

    def _next_trial(self) -> optuna.Trial | None:
        if not self._trials(TrialState.WAITING):
            return None  # Optuna would sample new weights
        numbers = [number for weights in self._grid for number in weights]
        distribution = FloatDistribution(min(numbers), max(numbers))
        return self.study.ask({"alpha": distribution, "beta": distribution})

    def _bring_back_dead(self) -> None:
        for trial in self._trials(TrialState.RUNNING):
            weights = _weights(trial.user_attrs)
            with claim(self.run(weights).folder) as lock:
                if lock is not None:
                    self.study.tell(trial.number, state=TrialState.FAIL)
                    self._enqueue(weights)

    def _enqueue(self, weights: Weights) -> None:
        params = dict(zip(("alpha", "beta"), weights, strict=True))
        self.study.enqueue_trial(params, user_attrs=params)  # params are set once it runs

    def _trials(self, *states: TrialState) -> list[optuna.trial.FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states)


def _open(storage: str) -> Any:
    if "://" in storage:
        # Without a pool every connection is closed after its use; sqlite3 warns of open ones.
        return optuna.storages.RDBStorage(storage, engine_kwargs={"poolclass": NullPool})
    Path(storage).expanduser().parent.mkdir(parents=True, exist_ok=True)
    return optuna.storages.JournalStorage(JournalFileBackend(str(Path(storage).expanduser())))


def _weights(params: Mapping[str, float]) -> Weights:
    return params["alpha"], params["beta"]
