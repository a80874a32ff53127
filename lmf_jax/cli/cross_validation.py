"""Train the folds of a cross-validation, alone or together with other processes."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lmf_jax.cli.settings import resolve_settings
from lmf_jax.cli.tasks import TASKS, Task
from lmf_jax.cli.trained_run import Run
from lmf_jax.config import Config, ResolvedConfig
from lmf_jax.distributed.preemption import resume_command
from lmf_jax.errors import Interrupted, JointError
from lmf_jax.evaluation import write_report
from lmf_jax.runs.atomic_files import read_json_lines
from lmf_jax.runs.files import fold_dir, read_record
from lmf_jax.runs.folder import (
    check_epochs_done,
    has_record,
    open_run,
    read_config,
)
from lmf_jax.runs.folds import REPORT, fold_dirs, is_finished, joint_dataset, try_lock

POLL_SECONDS = 1.0
"""Time between two looks whether another process has finished its fold, or was killed."""


def cross_validate(config: Config, train_run: Callable[[Config], Run]) -> Run:
    """Train the folds that are missing and, once there are all, write the joint results.

    A fold is trained by the process that holds its lock. A process that finds all missing folds
    locked waits: it takes over the fold of a process that was killed.

    Args:
        config: The settings, with ``folds``.
        train_run: Trains, tests and reports one run.

    Returns:
        The whole, whose results are those over all folds; with ``fold``, that fold.

    Raises:
        UserError: If a setting does not fit, or the data or a folder cannot be used.
        TrainingStopped: If a loss or gradient is not finite, or a checkpoint cannot be written.
        Interrupted: After Ctrl-C, or as Preempted after SIGTERM, with everything saved.
    """
    task = TASKS[config.data.task]
    run_dir, resolved = _open_folder(config, task)
    assert resolved.data.folds is not None
    every = range(1, resolved.data.folds + 1)
    chosen = every if config.data.fold is None else [config.data.fold]
    trained = _Folds(run_dir, config, resolved, train_run).train(chosen)
    missing = [n for n in every if not is_finished(fold_dir(run_dir, n), resolved.training.epochs)]
    if missing:
        print(f"folds that are not finished: {', '.join(map(str, missing))}")
    else:
        _join(run_dir, task)
        print(task.format_folds(task.read_run(run_dir)))
        print(f"report: {run_dir / REPORT}")
    if config.data.fold is None:
        return Run(run_dir)
    return trained or Run(fold_dir(run_dir, config.data.fold))


def evaluate_folds(run_dir: Path, task: Task, test_run: Callable[[Path], Any]) -> None:
    """Test every fold again and write the joint results.

    Args:
        run_dir: The folder of a cross-validation whose folds are finished.
        task: Its task.
        test_run: Tests and reports one run.

    Raises:
        UserError: If a fold is not finished, or its data are missing or have changed.
    """
    for folder in fold_dirs(run_dir):
        test_run(folder)
    task.join_folds(run_dir)
    write_report(run_dir)
    print(task.format_folds(task.read_run(run_dir)))
    print(f"report: {run_dir / REPORT}")


def _open_folder(config: Config, task: Task) -> tuple[Path, ResolvedConfig]:
    """Make the folder of a cross-validation, or check that its settings and data are the same."""
    config = config.replace(run_dir=str(_whole(config)))
    assert config.data.folds is not None
    descriptions = []
    resolved = None
    for number in range(1, config.data.folds + 1):
        of_fold = config.replace(fold=number, run_dir=config.run.run_dir or "runs")
        recorded = fold_dir(config.run.run_dir, number)
        is_there = bool(config.run.run_dir) and has_record(recorded)
        dataset = task.load_dataset(of_fold, read_record(recorded)["dataset"] if is_there else None)
        if resolved is None:  # those of the first fold are those of all
            resolved = _resolve(of_fold, dataset)
        if is_there:
            done = len(read_json_lines(recorded / "metrics.jsonl"))
            check_epochs_done(done, resolved.training.epochs, str(recorded))
        descriptions.append(task.open_inputs(dataset, resolved, None).description)
    assert resolved is not None
    whole = resolved.replace(fold=None, run_dir=config.run.run_dir, resume=False)
    data = joint_dataset(descriptions)
    if not config.run.run_dir:
        return open_run(whole, data), whole
    is_shared = config.run.resume or config.data.fold is not None
    if not (is_shared and has_record(Path(config.run.run_dir))):
        try:
            return open_run(whole, data), whole
        except JointError:  # another process was first
            if not (is_shared and has_record(Path(config.run.run_dir))):
                raise
    return open_run(whole.replace(resume=True), data), whole


def _resolve(of_fold: Config, dataset: Any) -> ResolvedConfig:
    """Return the settings of all folds: those of their common folder, or those of this fold."""
    folder = of_fold.run.run_dir
    if has_record(folder):
        return of_fold.resolve(read_config(folder).settings())
    resolved, notes = resolve_settings(of_fold, dataset)
    for note in notes:
        print(note)
    return resolved


def _whole(config: Config) -> Path | str:
    """Return the folder of the whole; ``run_dir`` may be that of a fold to resume."""
    folder = Path(config.run.run_dir)
    if not (config.run.run_dir and config.run.resume and has_record(folder)):
        return config.run.run_dir
    return folder if read_record(folder)["config"].get("fold") is None else folder.parent


def _join(run_dir: Path, task: Task) -> None:
    """Write the joint results, unless another process does or has."""
    while True:
        with try_lock(run_dir, "results") as is_ours:
            if (run_dir / REPORT).exists():
                return
            if is_ours:
                task.join_folds(run_dir)
                write_report(run_dir)
                return
        time.sleep(POLL_SECONDS)


class _Folds:
    """The folds of a cross-validation that this process trains."""

    def __init__(
        self,
        run_dir: Path,
        config: Config,
        resolved: ResolvedConfig,
        train_run: Callable[[Config], Run],
    ) -> None:
        self.run_dir, self.config, self.train_run = run_dir, config, train_run
        self.resolved, self.total = resolved, resolved.data.folds
        self.epochs = resolved.training.epochs
        self.may_skip = config.run.resume or config.data.fold is None

    def train(self, numbers: "range | list[int]") -> Run | None:
        """Train the missing folds; return the last one, None if other processes trained all."""
        trained, is_told = None, False
        while missing := [number for number in numbers if not self._is_done(number)]:
            runs = [run for number in missing if (run := self._try(number)) is not None]
            if runs:
                trained, is_told = runs[-1], False
                if not self.may_skip:
                    return trained
                continue
            if not is_told and (waits := [n for n in missing if not self._is_done(n)]):
                is_told = True
                print(f"waits for fold {', '.join(map(str, waits))}, which others train")
            time.sleep(POLL_SECONDS)
        return trained

    def _is_done(self, number: int) -> bool:
        return self.may_skip and is_finished(fold_dir(self.run_dir, number), self.epochs)

    def _try(self, number: int) -> Run | None:
        """Train a fold, unless it is finished or another process trains it."""
        folder = fold_dir(self.run_dir, number)
        with try_lock(self.run_dir, folder.name) as is_ours:
            if not is_ours or self._is_done(number):
                return None
            is_new = not has_record(folder)
            resume = self.config.run.resume and not is_new
            if resume or is_new:  # else it is refused, with its results
                for report in (folder / REPORT, self.run_dir / REPORT):
                    report.unlink(missing_ok=True)
            print(f"fold {number} of {self.total}")
            config = self.resolved.replace(fold=number, run_dir=str(folder), resume=resume)
            try:
                return self.train_run(config)
            except Interrupted as error:
                message, of_fold = str(error), resume_command(folder)
                if self.config.data.fold is None:
                    message = message.replace(of_fold, resume_command(self.run_dir))
                raise type(error)(f"Fold {number}: {message}") from error
