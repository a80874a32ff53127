"""The loop: train an epoch, validate exactly, save; until the epochs are over or nothing improves.

The order in which a run starts is this:

1. ``--resume``: the state, the input position and the metrics of the newest checkpoint, if the run
   came so far.
2. Else: the initial state of the seed.

A run that was saved in the middle of an epoch goes on in the middle of it.
"""

import shlex
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, runtime_checkable

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

CHECK_EVERY = 50
"""Steps between two looks at the device for a loss that is not finite, each of which waits for it;
and between two questions of several processes whether one was told to stop."""


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
        Interrupted: after Ctrl-C, with everything saved.
    """
    per_epoch = program.settings.steps_per_epoch
    history: History = []
    normalisation = program.settings.normalisation
    with closing(Checkpoints(run_dir / "checkpoints", normalisation)) as checkpoints:
        saved = checkpoints.restore_latest(program.state_shapes()) if config.resume else None
        if saved is None:
            state = program.initial_state()
        else:
            state, input_state, history = saved
            train_batches.set_state(input_state)
        step = int(state.step)
        images = (program.settings.total_steps - step) * config.batch_size
        with (
            _interruptible() as interrupted,
            closing(Progress(run_dir, config.epochs, images, history)) as progress,
        ):
            batches = prefetch(train_batches)
            while len(history) < config.epochs and not _is_stale(history, config.early_stopping):
                epoch_end = (len(history) + 1) * per_epoch
                while step < epoch_end:
                    batch, input_state = next(batches)
                    state = program.train_step(state, batch)
                    step += 1
                    if step == epoch_end or step % CHECK_EVERY == 0 or progress.compiling:
                        _check_finite(state, per_epoch)
                    progress.add(config.batch_size)
                    if step < epoch_end and _any_process(interrupted, step):
                        _check_finite(state, per_epoch)
                        checkpoints.save(step, state, input_state, history)
                        raise _interruption(run_dir, step, per_epoch)
                history = [*history, _validate(program, state, step, validation_batches)]
                checkpoints.save(step, state, input_state, history)
                progress.end_epoch(history)
                if _any_process(interrupted):
                    raise _interruption(run_dir, step, per_epoch)
        return checkpoints.restore_best(state, history)


def prefetch(
    stream: BatchStream, depth: int = 2
) -> Iterator[tuple[dict[str, Array], dict[str, Any]]]:
    """Yield batches on the devices, copied ahead, each with the input position that follows it."""
    ahead: deque[tuple[dict[str, Array], dict[str, Any]]] = deque()
    while True:
        while len(ahead) < depth:
            batch = spread_over_devices(next(stream))
            ahead.append((batch, stream.get_state()))
        yield ahead.popleft()


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


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a question that the loop asks between steps; a second one acts."""
    pressed = False

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _any_process(interrupted: Callable[[], bool], step: int | None = None) -> bool:
    """Return whether a person asked to stop; several processes agree on it, at steps that all know.

    Saving takes all processes: one alone would wait for the others forever.
    """
    if jax.process_count() == 1:
        return interrupted()
    if step is not None and step % CHECK_EVERY:
        return False
    return bool(multihost_utils.process_allgather(np.asarray(interrupted())).any())


def _interruption(run_dir: Path, step: int, steps_per_epoch: int) -> Interrupted:
    return Interrupted(
        f"Stopped and saved after step {step} (epoch {(step - 1) // steps_per_epoch + 1}); go on "
        f"with: python train.py --resume --run-dir {shlex.quote(str(run_dir))}"
    )
