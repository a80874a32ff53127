"""The study of alpha and beta, which Optuna keeps and any number of workers take trials from.

A trial is alive as long as somebody holds the lock of its run. That holds for every storage of
Optuna's, and lets a trial come back at once when its worker dies.
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

from benchmarks.paper import runs
from benchmarks.paper.reproduced import read_group
from benchmarks.paper.runs import Recipe, Run, claim

Weights = tuple[float, float]
"""Alpha and beta."""


@dataclass(frozen=True)
class Taken:
    """A trial that this worker took, with its run and the descriptor of the run's lock."""

    trial: optuna.Trial
    run: Run
    lock: int


class Sweep:
    """The trials of a recipe with a seed."""

    def __init__(self, storage: str, recipe: Recipe, seed: int, grid: Sequence[Weights]) -> None:
        """Open the study, or begin it.

        Args:
            storage: The address of a database, or the path of a journal.
            recipe: What all runs have in common.
            seed: Of the training.
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
        """Return the best validation macro F1 of every pair that is told, in order of the grid."""
        told = self._trials(TrialState.COMPLETE)
        found = {_weights(trial.params): trial.values[0] for trial in told}
        return {weights: found[weights] for weights in self._grid if weights in found}

    def work(self, command: Sequence[str] = runs.TRAIN) -> None:
        """Take trials until every one is told, by this worker or another.

        A pair whose run failed before is tried again; a run that fails now is not.

        Args:
            command: Begins the command line that trains one run.

        Raises:
            Interrupted: If a person ended a run; it is saved, and its trial comes back.
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
        """Take the next trial and hold its run.

        Yields:
            The trial; None if none waits.
        """
        with contextlib.ExitStack() as held:
            # One worker at a time, so that a trial that runs is held, or its worker is dead.
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
            return None  # asked now, Optuna would make weights up
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
        return storage
    Path(storage).expanduser().parent.mkdir(parents=True, exist_ok=True)
    return optuna.storages.JournalStorage(JournalFileBackend(str(Path(storage).expanduser())))


def _weights(params: Mapping[str, float]) -> Weights:
    return params["alpha"], params["beta"]
