"""Training loop: train an epoch, validate and save, until the last epoch or early stopping.

A run starts from the newest checkpoint with ``--resume`` (if there is one), and from the initial
state of its seed otherwise. A run that was saved within an epoch continues at that step.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array

from lmf_jax.config import ResolvedTraining, RunConfig
from lmf_jax.distributed.devices import Batch, Variables, shard_batch
from lmf_jax.distributed.preemption import StopRequest, stop_requests
from lmf_jax.distributed.watchdog import Watchdog
from lmf_jax.errors import Interrupted, TrainingStopped
from lmf_jax.models.further_inputs import further_inputs
from lmf_jax.models.normalization import Normalization
from lmf_jax.runs.folder import check_epochs_done
from lmf_jax.training.checkpoint import Checkpoints, History
from lmf_jax.training.optimizer import set_lr_scale
from lmf_jax.training.program import Program
from lmf_jax.training.progress import Progress
from lmf_jax.training.state import TrainState

CHECK_EVERY = 50
"""Steps between two checks for a non-finite loss; a check waits for the device."""


@runtime_checkable
class BatchStream(Protocol):
    """An endless iterator over training batches with a position that can be saved and restored."""

    def __next__(self) -> Batch:
        """Return the next batch of this process."""

    def get_state(self) -> dict[str, Any]:
        """Return the position after the batches handed out so far."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from this position."""


def fit(
    training: ResolvedTraining,
    run: RunConfig,
    program: Program,
    run_dir: Path,
    train_batches: BatchStream,
    validation_batches: Iterable[Batch],
) -> Variables:
    """Train and return the variables of the epoch with the best validation score.

    Args:
        training: Epochs, batch size and early stopping.
        run: Whether to resume, and how often to save.
        program: The program of the task.
        run_dir: The folder of the run, for checkpoints, metrics and TensorBoard files.
        train_batches: This process's endless training batches.
        validation_batches: This process's validation batches, each example once.

    Raises:
        TrainingStopped: If a loss or gradient is not finite, or a checkpoint cannot be written; the
            last good checkpoint is kept.
        UserError: If a resumed run has finished more epochs than the settings ask for.
        Interrupted: After Ctrl-C, or as Preempted after SIGTERM, with everything saved.
    """
    with ExitStack() as stack:
        checkpoints = Checkpoints(
            run_dir / "checkpoints", program.settings.normalization, program.score
        )
        stack.push(partial(_close, checkpoints))
        saved = checkpoints.restore_latest(program.state_shapes()) if run.resume else None
        if saved is not None:
            # The position after the last batch trained on; the stopped run had read further ahead.
            train_batches.set_state(saved[1])
        state, input_state, history = saved or (program.initial_state(), {}, [])
        # The checkpoint decides: a killed run may lack the last row of metrics.jsonl.
        check_epochs_done(len(history), training.epochs, run.run_dir)
        step = int(state.step)
        progress = Progress(
            run_dir,
            epochs=training.epochs,
            steps=program.settings.total_steps - step,
            batch_size=training.batch_size,
            history=history,
        )
        watchdog = Watchdog(run.watchdog_minutes)
        stack.callback(progress.close)
        stack.callback(watchdog.close)
        stop = stack.enter_context(stop_requests())
        run_state = _Run(
            training=training,
            checkpoint_steps=run.checkpoint_steps,
            program=program,
            run_dir=run_dir,
            checkpoints=checkpoints,
            progress=progress,
            watchdog=watchdog,
            stop=stop,
            state=state,
            step=step,
            input_state=input_state,
            history=history,
        )
        batches = prefetch(train_batches, program)
        while not run_state.is_finished:
            run_state.train_epoch(batches)
            run_state.validate(validation_batches)
        watchdog.start("the last checkpoint")
        return checkpoints.restore_best(run_state.state, run_state.history)


@dataclass
class _Run:
    """A run in progress: the contents of a checkpoint, and the services of the loop."""

    training: ResolvedTraining
    checkpoint_steps: int
    program: Program
    run_dir: Path
    checkpoints: Checkpoints
    progress: Progress
    watchdog: Watchdog
    stop: StopRequest
    state: TrainState
    step: int
    input_state: dict[str, Any]
    history: History

    @property
    def is_finished(self) -> bool:
        patience = self.training.early_stopping
        is_stale = _is_stale([row[self.program.score] for row in self.history], patience)
        return len(self.history) >= self.training.epochs or is_stale

    @property
    def _lr_scale(self) -> float:
        """The factor of the learning rate in this epoch."""
        plateau = self.program.plateau
        return plateau.lr_scale([row["val_loss"] for row in self.history]) if plateau else 1.0

    def train_epoch(self, batches: Iterator[tuple[dict[str, Array], dict[str, Any]]]) -> None:
        """Train to the end of the current epoch."""
        per_epoch = self.program.settings.steps_per_epoch
        epoch_end = (len(self.history) + 1) * per_epoch
        if self.program.plateau is not None:
            opt_state = set_lr_scale(self.state.opt_state, self._lr_scale)
            self.state = self.state.replace(opt_state=opt_state)
        while self.step < epoch_end:
            self.watchdog.start(f"the images of step {self.step + 1}")
            batch, self.input_state = next(batches)
            self.watchdog.start(f"step {self.step + 1}")
            self.state = self.program.train_step(self.state, batch)
            self.step += 1
            is_check = self.step == epoch_end or self.step % CHECK_EVERY == 0
            if is_check or self.progress.waits_for_step:
                _check_finite(self.state, per_epoch)
            self.progress.add()
            if self.stop.should_stop(self.step):
                self.save_and_stop()
            if self.checkpoint_steps and self.step % self.checkpoint_steps == 0:
                self.save()

    def validate(self, batches: Iterable[Batch]) -> None:
        """End the epoch: validate, save and report."""
        program, variables = self.program, self.state.evaluation_variables
        validation = program.validate(variables, self._watched(batches), self.step)
        per_epoch = program.settings.steps_per_epoch
        row = {
            "epoch": self.step // per_epoch,
            "step": self.step,
            "train_loss": float(self.state.loss_sum) / per_epoch,
            **validation.metrics,
            "learning_rate": float(program.schedule(self.step - 1)) * self._lr_scale,
        }
        self.history = [*self.history, row]
        self.save()
        self.progress.end_epoch(self.history, is_constant=validation.is_constant)
        if self.stop.should_stop(self.step):
            self.save_and_stop()

    def save(self) -> None:
        self.watchdog.start(f"the checkpoint of step {self.step}")
        _check_finite(self.state, self.program.settings.steps_per_epoch)
        self.checkpoints.save(self.step, self.state, self.input_state, self.history)

    def save_and_stop(self) -> NoReturn:
        self.save()
        per_epoch = self.program.settings.steps_per_epoch
        raise self.stop.interruption(self.run_dir, self.step, per_epoch)

    def _watched(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for number, batch in enumerate(batches, start=1):
            self.watchdog.start(f"batch {number} of the validation after step {self.step}")
            if self.stop.should_stop_now:
                self.save_and_stop()
            yield batch


def _close(checkpoints: Checkpoints, kind: type | None, error: object, traceback: object) -> None:
    """Finish saving, unless one of several processes failed."""
    # Saving is collective: a failed process would wait for the others forever.
    if jax.process_count() == 1 or error is None or isinstance(error, Interrupted):
        checkpoints.close()


def prefetch(
    stream: BatchStream, program: Program, depth: int = 2
) -> Iterator[tuple[dict[str, Array], dict[str, Any]]]:
    """Yield sharded batches, copied to the devices ahead, with the input position after each.

    Args:
        stream: The batches of this process.
        program: The program that takes them.
        depth: Batches in flight; with two, the copy of one overlaps the step of the other.

    Raises:
        ValueError: If images have the wrong type or values, or a label is not a class id.
    """
    ahead: deque[tuple[dict[str, Array], dict[str, Any]]] = deque()
    while True:
        while len(ahead) < depth:
            batch = next(stream)
            _check_batch(batch, program)
            ahead.append((shard_batch(batch), stream.get_state()))
        yield ahead.popleft()


def _check_batch(batch: Batch, program: Program) -> None:
    """Refuse values that the step would accept silently: NaN, and labels out of range."""
    images, labels = batch["image"], batch["label"]
    if not isinstance(program.settings.normalization, Normalization):  # volumes
        if images.dtype != np.float32 or not np.isfinite(images).all():
            raise ValueError(
                f"A batch holds images of {images.dtype}, or a pixel that is not finite; expected "
                "finite float32."
            )
    elif images.dtype != np.uint8:
        raise ValueError(f"A batch holds images of {images.dtype}; expected uint8 in 0 to 255.")
    for name, values in further_inputs(batch).items():
        if values.dtype != np.float32 or not np.isfinite(values).all():
            raise ValueError(
                f"A batch holds {name} of {values.dtype}, or a value that is not finite; expected "
                "finite float32."
            )
    low, high = program.label_range
    wrong = (labels < low) | (labels > high)
    if wrong.any():
        raise ValueError(
            f"A batch holds the label {labels[wrong][0]}; expected class ids from {low} to {high}."
        )


def _is_stale(scores: Sequence[float], patience: int) -> bool:
    """Return whether the last ``patience`` epochs brought no better score."""
    if not patience or len(scores) <= patience:
        return False
    return max(scores[-patience:]) <= max(scores[:-patience])


def _check_finite(state: TrainState, steps_per_epoch: int) -> None:
    first = int(state.nonfinite_step)
    if first >= 0:
        raise TrainingStopped(
            f"The loss or its gradient was not finite at step {first + 1} "
            f"(epoch {first // steps_per_epoch + 1}); the last good checkpoint is kept. "
            "Lower --learning-rate, or check the images."
        )
