"""The loop: train an epoch, validate exactly, save; until the epochs are over or nothing improves.

The order in which a run starts is this:

1. ``--resume``: the state, the input position and the metrics of the newest checkpoint, if the run
   came so far.
2. Else: the initial state of the seed.

A run that was saved in the middle of an epoch goes on in the middle of it.
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
from lmf_jax.distributed.devices import Batch, Variables, spread_over_devices
from lmf_jax.distributed.preemption import StopRequest, stop_requests
from lmf_jax.distributed.watchdog import Watchdog
from lmf_jax.errors import Interrupted, TrainingStopped
from lmf_jax.runs.folder import check_epochs_done
from lmf_jax.training.checkpoint import Checkpoints, History
from lmf_jax.training.optimizer import set_plateau_share
from lmf_jax.training.program import Program
from lmf_jax.training.progress import Progress
from lmf_jax.training.state import TrainState

CHECK_EVERY = 50
"""Steps between two looks at the device for a loss that is not finite; each waits for it."""


@runtime_checkable
class BatchStream(Protocol):
    """An endless iterator over training batches whose position can be read and set."""

    def __next__(self) -> Batch:
        """Return the next batch of this process."""

    def get_state(self) -> dict[str, Any]:
        """Return the position after the batches handed out so far."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from this position."""


def fit(
    training: ResolvedTraining,
    run: RunConfig,
    program: Program,
    run_dir: Path,
    train_batches: BatchStream,
    validation_batches: Iterable[Batch],
) -> Variables:
    """Train, and return the variables of the epoch with the best validation score.

    Args:
        training: Epochs, batch size and early stopping.
        run: Whether to resume, and how often to save.
        program: Of the task.
        run_dir: The folder of the run; checkpoints, metrics and TensorBoard files go there.
        train_batches: This process's endless training batches.
        validation_batches: This process's validation batches, each example once.

    Raises:
        TrainingStopped: If a loss or gradient is not finite, or a checkpoint cannot be written; the
            last good checkpoint stays.
        UserError: If a resumed run has done more epochs than the settings ask for.
        Interrupted: After Ctrl-C, or as Preempted after SIGTERM, with everything saved.
    """
    with ExitStack() as stack:
        checkpoints = Checkpoints(
            run_dir / "checkpoints", program.settings.normalisation, program.score
        )
        stack.push(partial(_close, checkpoints))
        saved = checkpoints.restore_latest(program.state_shapes()) if run.resume else None
        if saved is not None:
            train_batches.set_state(saved[1])
        state, input_state, history = saved or (program.initial_state(), {}, [])
        check_epochs_done(
            len(history), training.epochs, run.run_dir
        )  # metrics.jsonl may lack the last
        step = int(state.step)
        images = (program.settings.total_steps - step) * training.batch_size
        progress = Progress(run_dir, training.epochs, images, history)
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
        while not run_state.is_over:
            run_state.train_epoch(batches)
            run_state.validate(validation_batches)
        watchdog.now("the last checkpoint")
        return checkpoints.restore_best(run_state.state, run_state.history)


@dataclass
class _Run:
    """A run on its way: what a checkpoint holds, and whom it tells what it does."""

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
    def is_over(self) -> bool:
        patience = self.training.early_stopping
        is_stale = _is_stale([row[self.program.score] for row in self.history], patience)
        return len(self.history) >= self.training.epochs or is_stale

    @property
    def _plateau_share(self) -> float:
        """What the learning rate of this epoch is multiplied by."""
        plateau = self.program.plateau
        return plateau.share([row["val_loss"] for row in self.history]) if plateau else 1.0

    def train_epoch(self, batches: Iterator[tuple[dict[str, Array], dict[str, Any]]]) -> None:
        """Train up to the end of the epoch, from wherever in it the run is."""
        per_epoch = self.program.settings.steps_per_epoch
        epoch_end = (len(self.history) + 1) * per_epoch
        if self.program.plateau is not None:
            opt_state = set_plateau_share(self.state.opt_state, self._plateau_share)
            self.state = self.state.replace(opt_state=opt_state)
        while self.step < epoch_end:
            self.watchdog.now(f"the images of step {self.step + 1}")
            batch, self.input_state = next(batches)
            self.watchdog.now(f"step {self.step + 1}")
            self.state = self.program.train_step(self.state, batch)
            self.step += 1
            if self.step == epoch_end or self.step % CHECK_EVERY == 0 or self.progress.compiling:
                _check_finite(self.state, per_epoch)
            self.progress.add(self.training.batch_size)
            if self.stop.holds_after(self.step):
                self.save_and_stop()
            if self.checkpoint_steps and self.step % self.checkpoint_steps == 0:
                self.save()

    def validate(self, batches: Iterable[Batch]) -> None:
        """End the epoch: validate, save and tell."""
        program, variables = self.program, self.state.evaluation_variables
        metrics = program.validate(variables, self._watched(batches), self.step)
        per_epoch = program.settings.steps_per_epoch
        row = {
            "epoch": self.step // per_epoch,
            "step": self.step,
            "train_loss": float(self.state.loss_sum) / per_epoch,
            **metrics,
            "learning_rate": float(program.schedule(self.step - 1)) * self._plateau_share,
        }
        self.history = [*self.history, row]
        self.save()
        self.progress.end_epoch(self.history)
        if self.stop.holds_after(self.step):
            self.save_and_stop()

    def save(self) -> None:
        self.watchdog.now(f"the checkpoint of step {self.step}")
        _check_finite(self.state, self.program.settings.steps_per_epoch)
        self.checkpoints.save(self.step, self.state, self.input_state, self.history)

    def save_and_stop(self) -> NoReturn:
        self.save()
        per_epoch = self.program.settings.steps_per_epoch
        raise self.stop.interruption(self.run_dir, self.step, per_epoch)

    def _watched(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for number, batch in enumerate(batches, start=1):
            self.watchdog.now(f"batch {number} of the validation after step {self.step}")
            if self.stop.is_made_here:
                self.save_and_stop()
            yield batch


def _close(checkpoints: Checkpoints, kind: type | None, error: object, traceback: object) -> None:
    """Finish saving, unless one of several processes fails: that one cannot wait for the others."""
    if jax.process_count() == 1 or error is None or isinstance(error, Interrupted):
        checkpoints.close()


def prefetch(
    stream: BatchStream, program: Program, depth: int = 2
) -> Iterator[tuple[dict[str, Array], dict[str, Any]]]:
    """Yield batches on the devices, copied ahead, each with the input position that follows it.

    Raises:
        ValueError: If an image is not what the program takes, or a label is no class id.
    """
    ahead: deque[tuple[dict[str, Array], dict[str, Any]]] = deque()
    while True:
        while len(ahead) < depth:
            batch = next(stream)
            _check_batch(batch, program)
            ahead.append((spread_over_devices(batch), stream.get_state()))
        yield ahead.popleft()


def _check_batch(batch: Batch, program: Program) -> None:
    """Refuse what the step would take for something else: out of range is masked, NaN spreads."""
    images, labels = batch["image"], batch["label"]
    if program.settings.normalisation is None:
        if images.dtype != np.float32 or not np.isfinite(images).all():
            raise ValueError(
                f"A batch holds images of {images.dtype}, or a pixel that is not finite; expected "
                "finite float32."
            )
    elif images.dtype != np.uint8:
        raise ValueError(f"A batch holds images of {images.dtype}; expected uint8 in 0 to 255.")
    wrong = (labels < 0) | (labels >= program.num_classes)
    if wrong.any():
        raise ValueError(
            f"A batch holds the label {labels[wrong][0]}; expected class ids from 0 to "
            f"{program.num_classes - 1}."
        )


def _is_stale(scores: Sequence[float], patience: int) -> bool:
    """Return whether the last ``patience`` epochs brought no better score."""
    if not patience or len(scores) <= patience:
        return False
    return max(scores[-patience:]) <= max(scores[:-patience])


def _check_finite(state: TrainState, steps_per_epoch: int) -> None:
    before = int(state.nonfinite_step)
    if before >= 0:
        raise TrainingStopped(
            f"The loss or its gradient was not finite at step {before + 1} "
            f"(epoch {before // steps_per_epoch + 1}); the last good checkpoint is kept. "
            "Lower --learning-rate, or check the images."
        )
