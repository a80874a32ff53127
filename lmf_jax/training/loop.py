"""The loop: train an epoch, validate exactly, save; until the epochs are over or nothing improves.

The order in which a run starts is this:

1. ``--resume``: the state, the input position and the metrics of the newest checkpoint, if the run
   came so far.
2. Else: the initial state of the seed.

A run that was saved in the middle of an epoch goes on in the middle of it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array, Float, Int

from lmf_jax.config import Config
from lmf_jax.errors import Interrupted, TrainingStopped, UserError
from lmf_jax.evaluation.finished_run import EpochMetrics
from lmf_jax.evaluation.metrics import classification_metrics, confusion_matrix, predicted_classes
from lmf_jax.losses import Objective, make_objective
from lmf_jax.losses.checks import ClassCounts
from lmf_jax.models import create_model
from lmf_jax.models.classifier import Classifier
from lmf_jax.models.normalisation import NORMALISATIONS
from lmf_jax.models.pretrained import load_pretrained
from lmf_jax.training.checkpoint import Checkpoints, History
from lmf_jax.training.optimizer import make_optimizer, step_decay, train_head_only
from lmf_jax.training.progress import Progress
from lmf_jax.training.step import (
    AXIS,
    Batch,
    MappedStep,
    StepSettings,
    TrainState,
    Variables,
    create_train_state,
    make_predict_step,
    make_train_step,
    spread_over_devices,
    train_state_shapes,
)
from lmf_jax.training.stop_request import StopRequest, stop_requests
from lmf_jax.training.watchdog import Watchdog

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


@dataclass(frozen=True)
class Program:
    """The compiled parts of a run and the numbers that its loop turns on."""

    settings: StepSettings
    num_classes: int
    model: Classifier
    """Without a mapped axis: the same variables, outside of the steps."""
    start: str
    """What the weights start from, in words."""
    objective: Objective
    schedule: Callable[[int], Any]
    initial_state: Callable[[], TrainState]
    state_shapes: Callable[[], TrainState]
    """What a saved state is restored to."""
    train_step: MappedStep
    predict_step: MappedStep


def make_program(
    config: Config, class_counts: ClassCounts, devices: Sequence[jax.Device] | None = None
) -> Program:
    """Put a run together from its settings.

    Args:
        config: resolved settings.
        class_counts: training examples per class, ``[C]``.
        devices: what the steps are for; by itself all devices there are. For others, of which there
            is only a description, they can be compiled and not run.

    Raises:
        UserError: if the batch cannot be spread over the devices, or a class has no example.
    """
    device_count = jax.device_count() if devices is None else len(devices)
    shares = device_count * config.accumulate
    if config.batch_size % shares:
        raise UserError(
            f"--batch-size {config.batch_size} cannot be spread over {device_count} devices "
            f"and {config.accumulate} micro-batches; choose a multiple of {shares}."
        )
    steps_per_epoch = max(1, int(np.sum(class_counts)) // config.batch_size)
    dtype = jnp.dtype(config.precision)
    settings = StepSettings(
        steps_per_epoch=steps_per_epoch,
        total_steps=steps_per_epoch * config.epochs,
        seed=config.seed,
        dtype=dtype,
        normalisation=NORMALISATIONS[config.normalisation],
        augment=config.augment,
        mixup=config.mixup,
        cutmix=config.cutmix,
        accumulate=config.accumulate,
        ema_decay=config.ema_decay,
    )
    schedule = step_decay(
        config.learning_rate,
        decay_epochs=config.decay_epochs,
        decay_factor=config.decay_factor,
        steps_per_epoch=steps_per_epoch,
    )
    optimizer = make_optimizer(config.optimizer, schedule, weight_decay=config.weight_decay)
    if config.freeze_backbone:
        optimizer = train_head_only(optimizer)
    objective = _objective(config, class_counts)
    make_model = partial(
        create_model, config.model, num_classes=len(class_counts), dtype=dtype, head=config.head
    )
    model = make_model(axis_name=AXIS, remat=config.remat, freeze_backbone=config.freeze_backbone)
    image_shape = (config.image_size, config.image_size, 3)
    start = "where it stopped"
    if not config.resume:  # weights that do not fit are best refused before anything is done
        start = _starting_point(config, len(class_counts))[1]
    return Program(
        settings=settings,
        num_classes=len(class_counts),
        model=make_model(),
        start=start,
        objective=objective,
        schedule=schedule,
        initial_state=lambda: create_train_state(
            model, optimizer, image_shape, settings, _starting_point(config, len(class_counts))[0]
        ),
        state_shapes=lambda: train_state_shapes(model, optimizer, image_shape, settings),
        train_step=make_train_step(model, objective, optimizer, settings, devices),
        predict_step=make_predict_step(model, settings.normalisation, dtype, devices),
    )


def fit(
    config: Config,
    program: Program,
    run_dir: Path,
    train_batches: BatchStream,
    validation_batches: Iterable[Batch],
) -> Variables:
    """Train, and return the variables of the epoch with the best validation macro F1.

    Args:
        config: resolved settings.
        program: from :func:`make_program`.
        run_dir: the folder of the run; checkpoints, metrics and TensorBoard files go there.
        train_batches: this process's endless training batches.
        validation_batches: this process's validation batches, each example once.

    Raises:
        TrainingStopped: if a loss or gradient is not finite, or a checkpoint cannot be written; the
            last good checkpoint stays.
        Interrupted: after Ctrl-C, or as Preempted after SIGTERM, with everything saved.
    """
    with ExitStack() as stack:
        checkpoints = Checkpoints(run_dir / "checkpoints", program.settings.normalisation)
        stack.push(partial(_close, checkpoints))
        saved = checkpoints.restore_latest(program.state_shapes()) if config.resume else None
        if saved is not None:
            train_batches.set_state(saved[1])
        state, input_state, history = saved or (program.initial_state(), {}, [])
        step = int(state.step)
        images = (program.settings.total_steps - step) * config.batch_size
        progress = Progress(run_dir, config.epochs, images, history)
        watchdog = Watchdog(config.watchdog_minutes)
        stack.callback(progress.close)
        stack.callback(watchdog.close)
        stop = stack.enter_context(stop_requests())
        run = _Run(
            config=config,
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
        batches = prefetch(train_batches, program.num_classes)
        while not run.is_over:
            run.train_epoch(batches)
            run.validate(validation_batches)
        watchdog.now("the last checkpoint")
        return checkpoints.restore_best(run.state, run.history)


@dataclass
class _Run:
    """A run on its way: what a checkpoint holds, and whom it tells what it does."""

    config: Config
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
        patience = self.config.early_stopping
        return len(self.history) >= self.config.epochs or _is_stale(self.history, patience)

    def train_epoch(self, batches: Iterator[tuple[dict[str, Array], dict[str, Any]]]) -> None:
        """Train up to the end of the epoch, from wherever in it the run is."""
        per_epoch = self.program.settings.steps_per_epoch
        epoch_end = (len(self.history) + 1) * per_epoch
        while self.step < epoch_end:
            self.watchdog.now(f"the images of step {self.step + 1}")
            batch, self.input_state = next(batches)
            self.watchdog.now(f"step {self.step + 1}")
            self.state = self.program.train_step(self.state, batch)
            self.step += 1
            if self.step == epoch_end or self.step % CHECK_EVERY == 0 or self.progress.compiling:
                _check_finite(self.state, per_epoch)
            self.progress.add(self.config.batch_size)
            if self.stop.holds_after(self.step):
                self.save_and_stop()
            if self.config.checkpoint_steps and self.step % self.config.checkpoint_steps == 0:
                self.save()

    def validate(self, batches: Iterable[Batch]) -> None:
        """End the epoch: validate, save and tell."""
        row = _validate(self.program, self.state, self.step, self._watched(batches))
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
    stream: BatchStream, num_classes: int, depth: int = 2
) -> Iterator[tuple[dict[str, Array], dict[str, Any]]]:
    """Yield batches on the devices, copied ahead, each with the input position that follows it.

    Raises:
        ValueError: if the images are not uint8, or a label is no class id.
    """
    ahead: deque[tuple[dict[str, Array], dict[str, Any]]] = deque()
    while True:
        while len(ahead) < depth:
            batch = next(stream)
            _check_batch(batch, num_classes)
            ahead.append((spread_over_devices(batch), stream.get_state()))
        yield ahead.popleft()


def _check_batch(batch: Batch, num_classes: int) -> None:
    """Refuse what the step would take for something else: out of range is masked, NaN spreads."""
    if batch["image"].dtype != np.uint8:
        raise ValueError(
            f"A batch holds images of {batch['image'].dtype}; expected uint8 in 0 to 255."
        )
    wrong = (batch["label"] < 0) | (batch["label"] >= num_classes)
    if wrong.any():
        raise ValueError(
            f"A batch holds the label {batch['label'][wrong][0]}; expected class ids from 0 to "
            f"{num_classes - 1}."
        )


def predict(
    predict_step: Callable[[Variables, Array], Array],
    variables: Variables,
    batches: Iterable[Batch],
    *,
    scale: float = 1.0,
) -> tuple[Float[np.ndarray, "n classes"], Int[np.ndarray, " n"]]:
    """Return logits and labels of every example once, in the order of the batches.

    Args:
        predict_step: from :func:`lmf_jax.training.step.make_predict_step`.
        variables: ``{"params", "batch_stats"}``.
        batches: this process's ``{"image", "label", "mask"}``, equally many in every process.
        scale: what the logits are multiplied by, see :attr:`Config.logit_scale`.
    """
    logits: list[Any] = []
    labels, masks = [], []
    for batch in batches:
        logits.append(predict_step(variables, spread_over_devices(batch)["image"]))
        labels.append(batch["label"])
        masks.append(batch["mask"])
        if len(logits) > 2:  # wait for the device now and then, lest all images pile up on it
            logits[-3] = np.asarray(logits[-3])
    rows = [np.asarray(x).reshape(len(y), -1) for x, y in zip(logits, labels, strict=True)]
    everything = _all_processes({"logits": rows, "labels": labels, "masks": masks})
    mask = everything["masks"]
    return np.float32(scale) * everything["logits"][mask], everything["labels"][mask]


def _all_processes(parts: Mapping[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    """Stack batches; of several processes, put their blocks of each global batch in order."""
    stacked = {name: np.stack(blocks) for name, blocks in parts.items()}
    if jax.process_count() > 1:
        gathered = multihost_utils.process_allgather(stacked)  # [P, batches, block, ...]
        stacked = {name: np.moveaxis(x, 0, 1) for name, x in gathered.items()}
        return {name: x.reshape(-1, *x.shape[3:]) for name, x in stacked.items()}
    return {name: x.reshape(-1, *x.shape[2:]) for name, x in stacked.items()}


def _objective(config: Config, class_counts: ClassCounts) -> Objective:
    try:
        return make_objective(
            config.loss,
            class_counts,
            form=config.form,
            head=config.head,
            alpha=config.alpha,
            beta=config.beta,
            gamma=config.gamma,
            scale=config.scale,
            max_margin=config.max_margin,
            tau=config.tau,
            effective_number_beta=config.effective_number_beta,
            drw_start=config.drw_start,
        )
    except ValueError as error:
        raise UserError(str(error)) from error


def _starting_point(config: Config, num_classes: int) -> tuple[Variables | None, str]:
    """Return the variables to start from, in words too; a head that does not fit is left out."""
    if config.pretrained == "none":
        return None, "random weights"
    variables = load_pretrained(config.pretrained, config.model)
    params, words = dict(variables["params"]), f"the weights {config.pretrained}"
    head = params.pop("head", None)
    if head is None:
        words += f", with a new head of {num_classes} classes"
    elif config.head != "linear" or len(head["bias"]) != num_classes:
        words += f", their head of {len(head['bias']):,} classes replaced by one of {num_classes}"
    else:
        params["head"] = head
    return {"params": params, "batch_stats": variables["batch_stats"]}, words


def _validate(
    program: Program, state: TrainState, step: int, batches: Iterable[Batch]
) -> EpochMetrics:
    """Return the row of the epoch that ends with this step."""
    per_epoch = program.settings.steps_per_epoch
    logits, labels = predict(program.predict_step, state.evaluation_variables, batches)
    if not np.isfinite(logits).all():
        raise TrainingStopped(
            f"The validation logits of epoch {step // per_epoch} are not finite; the checkpoint of "
            "the epoch before is kept. Lower --learning-rate, or check the images."
        )
    progress = (step - 1) / program.settings.total_steps
    loss = jax.jit(program.objective)(jnp.asarray(logits), jnp.asarray(labels), progress=progress)
    predictions = predicted_classes(logits)
    confusion = confusion_matrix(labels, predictions, num_classes=logits.shape[-1])
    metrics = classification_metrics(np.asarray(confusion))
    return {
        "epoch": step // per_epoch,
        "step": step,
        "train_loss": float(state.loss_sum) / per_epoch,
        "val_loss": float(loss),
        "val_accuracy": float(metrics.accuracy),
        "val_macro_f1": float(metrics.macro_f1),
        "learning_rate": float(program.schedule(step - 1)),
    }


def _is_stale(history: History, patience: int) -> bool:
    """Return whether the last ``patience`` epochs brought no better validation macro F1."""
    if not patience or len(history) <= patience:
        return False
    scores = [row["val_macro_f1"] for row in history]
    return max(scores[-patience:]) <= max(scores[:-patience])


def _check_finite(state: TrainState, steps_per_epoch: int) -> None:
    before = int(state.nonfinite_step)
    if before >= 0:
        raise TrainingStopped(
            f"The loss or its gradient was not finite at step {before + 1} "
            f"(epoch {before // steps_per_epoch + 1}); the last good checkpoint is kept. "
            "Lower --learning-rate, or check the images."
        )
