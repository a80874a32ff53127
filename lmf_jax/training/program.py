"""Task-independent parts of a run: steps, optimizer, schedule, objective."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypedDict

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from lmf_jax.config import ResolvedConfig, ResolvedTraining
from lmf_jax.distributed.devices import Batch, MappedStep, Variables
from lmf_jax.errors import TrainingStopped, UserError
from lmf_jax.losses import Objective
from lmf_jax.models.normalization import AnyNormalization
from lmf_jax.training.optimizer import (
    PlateauDecay,
    make_optimizer,
    scale_by_plateau,
    step_decay,
    train_head_only,
)
from lmf_jax.training.state import StepSettings, TrainState, create_train_state, train_state_shapes
from lmf_jax.training.step import make_train_step


class Validation(NamedTuple):
    """The validation of an epoch."""

    metrics: dict[str, float]
    """``val_loss`` and :attr:`Program.score` among them."""
    is_constant: bool = False
    """Whether images of several classes all got the same class."""


@dataclass(frozen=True, kw_only=True)
class Program(ABC):
    """The model, steps and schedule of a run; a subclass per task adds the validation."""

    examples: ClassVar[str]
    """The examples of the dataset in messages: images or cases."""
    score: ClassVar[str]
    """The validation metric that selects the best epoch; larger is better."""

    settings: StepSettings
    num_classes: int
    model: Any
    """The module without a mapped axis, for use outside of the steps; same variables."""
    start: str
    """The origin of the initial weights, for messages."""
    objective: Objective
    schedule: Callable[[int], Any]
    """Learning rate by step, without the decay on a plateau."""
    plateau: PlateauDecay | None
    initial_state: Callable[[], TrainState]
    state_shapes: Callable[[], TrainState]
    """Shapes and types that a saved state is restored to."""
    train_step: MappedStep

    @property
    def label_range(self) -> tuple[int, int]:
        """The smallest and the largest label of a batch."""
        return 0, self.num_classes - 1

    @abstractmethod
    def validate(self, variables: Variables, batches: Iterable[Batch], step: int) -> Validation:
        """Validate an epoch.

        Args:
            variables: The variables to validate.
            batches: This process's validation batches, equally many in every process.
            step: The last step of the epoch, counted from 1.

        Raises:
            TrainingStopped: If a logit or the loss is not finite.
        """

    def announce(
        self,
        config: ResolvedConfig,
        rows: Mapping[str, Sized],
        run_dir: Path,
        notes: Sequence[str] = (),
    ) -> None:
        """Print model, loss, dataset and part sizes, on the first process only.

        Args:
            config: All settings.
            rows: The rows of each part of the data.
            run_dir: The folder of the run.
            notes: Remarks on the data, one line each.
        """
        if jax.process_index() > 0:
            return
        sizes = ", ".join(f"{part} {len(rows[part]):,}" for part in rows)
        data = config.data
        print(
            f"{config.model.model} with loss {config.loss.loss} on {data.dataset}; "
            f"run folder {run_dir}"
        )
        print(f"starts from {self.start}")
        print(f"{self.num_classes} classes; {self.examples} by split {data.split}: {sizes}")
        for note in notes:
            print(note)

    def not_finite(self, step: int) -> TrainingStopped:
        """Return the error for a validation after this step whose loss is not finite."""
        return TrainingStopped(
            f"The validation logits or loss of epoch {step // self.settings.steps_per_epoch} are "
            "not finite; the checkpoint of the epoch before is kept. Lower --learning-rate, or "
            "check the images."
        )


class TrainingParts(TypedDict):
    """The task-independent fields of a :class:`Program`."""

    settings: StepSettings
    num_classes: int
    objective: Objective
    schedule: Callable[[int], Any]
    plateau: PlateauDecay | None
    initial_state: Callable[[], TrainState]
    state_shapes: Callable[[], TrainState]
    train_step: MappedStep


def make_training_parts(
    config: ResolvedConfig,
    make_objective: Callable[[], Objective],
    *,
    num_examples: int,
    image_shape: tuple[int, ...],
    normalization: AnyNormalization | None,
    model: nn.Module,
    starting_point: Callable[[], Variables | None],
    devices: Sequence[jax.Device] | None,
    further_shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> TrainingParts:
    """Build the steps, the optimizer and the schedule of a run.

    Args:
        config: All settings.
        make_objective: Returns the objective; raises ``ValueError`` if the counts of the training
            examples do not fit the loss.
        num_examples: Examples per epoch.
        image_shape: Shape of one image, ``(*space, channels)``.
        normalization: Normalization of the images; None if they come normalized.
        model: The model, with the mapped axis of the steps.
        starting_point: Returns the initial variables, None for random ones.
        devices: The devices of the steps (default: all).
        further_shapes: Shape of each further input of one image, by name (default: none).

    Raises:
        UserError: If the batch cannot be divided over the devices, or a class has no example.
    """
    training = config.training
    _check_batch_size(training, jax.device_count() if devices is None else len(devices))
    steps_per_epoch = max(1, num_examples // training.batch_size)
    settings = StepSettings(
        steps_per_epoch=steps_per_epoch,
        total_steps=steps_per_epoch * training.epochs,
        seed=training.seed,
        dtype=jnp.dtype(config.model.precision),
        normalization=normalization,
        augment=training.augment,
        pairs=config.data.pair_by is not None,
        mixup=training.mixup,
        cutmix=training.cutmix,
        accumulate=training.accumulate,
        ema_decay=training.ema_decay,
    )
    plateau = None
    if training.schedule == "plateau":
        plateau = PlateauDecay(patience=training.decay_epochs, factor=training.decay_factor)
    schedule = _learning_rate(training, steps_per_epoch)
    optimizer = _optimizer(training, schedule, head_only=config.model.freeze_backbone)
    try:
        objective = make_objective()
    except ValueError as error:
        raise UserError(str(error)) from error
    return TrainingParts(
        settings=settings,
        num_classes=objective.num_classes,
        objective=objective,
        schedule=schedule,
        plateau=plateau,
        initial_state=lambda: create_train_state(
            model, optimizer, image_shape, settings, starting_point(), further_shapes
        ),
        state_shapes=lambda: train_state_shapes(
            model, optimizer, image_shape, settings, further_shapes
        ),
        train_step=make_train_step(model, objective, optimizer, settings, devices),
    )


def _check_batch_size(training: ResolvedTraining, device_count: int) -> None:
    divisor = device_count * training.accumulate
    if training.batch_size % divisor:
        raise UserError(
            f"--batch-size {training.batch_size} cannot be divided over {device_count} devices "
            f"and {training.accumulate} micro-batches; choose a multiple of {divisor}."
        )


def _learning_rate(training: ResolvedTraining, steps_per_epoch: int) -> optax.Schedule:
    """Return the learning rate by step, without the decay on a plateau."""
    if training.schedule == "plateau":
        return optax.constant_schedule(training.learning_rate)
    return step_decay(
        training.learning_rate,
        decay_epochs=training.decay_epochs,
        decay_factor=training.decay_factor,
        steps_per_epoch=steps_per_epoch,
    )


def _optimizer(
    training: ResolvedTraining, schedule: optax.Schedule, *, head_only: bool
) -> optax.GradientTransformation:
    optimizer = make_optimizer(
        training.optimizer,
        schedule,
        weight_decay=training.weight_decay,
        momentum=training.momentum,
    )
    if training.schedule == "plateau":
        optimizer = optax.chain(optimizer, scale_by_plateau())
    return train_head_only(optimizer) if head_only else optimizer
