"""What a run is made of before it starts: its compiled steps, and the numbers that it turns on."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from lmf_jax.config import Config
from lmf_jax.distributed.devices import Batch, MappedStep, Variables
from lmf_jax.errors import TrainingStopped, UserError
from lmf_jax.losses import Objective, build_objective
from lmf_jax.losses.checks import ClassCounts
from lmf_jax.models.normalisation import Normalisation
from lmf_jax.training.optimizer import (
    PlateauDecay,
    make_optimizer,
    scale_by_plateau,
    step_decay,
    train_head_only,
)
from lmf_jax.training.state import StepSettings, TrainState, create_train_state, train_state_shapes
from lmf_jax.training.step import make_train_step


@dataclass(frozen=True, kw_only=True)
class Program(ABC):
    """The parts of a run; a subclass knows the task."""

    examples: ClassVar[str]
    """What the data are made of."""
    score: ClassVar[str]
    """The validation figure by which the best epoch is chosen; the larger, the better."""

    settings: StepSettings
    num_classes: int
    model: Any
    """The module, without a mapped axis: the same variables, outside of the steps."""
    start: str
    """What the weights start from, in words."""
    objective: Objective
    schedule: Callable[[int], Any]
    """Learning rate by step, before any decay on a plateau."""
    plateau: PlateauDecay | None
    initial_state: Callable[[], TrainState]
    state_shapes: Callable[[], TrainState]
    """What a saved state is restored to."""
    train_step: MappedStep

    @abstractmethod
    def validate(
        self, variables: Variables, batches: Iterable[Batch], step: int
    ) -> dict[str, float]:
        """Return the validation figures of an epoch, ``val_loss`` and :attr:`score` among them.

        Args:
            variables: to validate.
            batches: this process's validation batches, equally many in every process.
            step: the last of the epoch, counted from 1.

        Raises:
            TrainingStopped: if a logit or the loss is not finite.
        """

    def announce(
        self,
        config: Config,
        rows: Mapping[str, Sized],
        run_dir: Path,
        notes: Sequence[str] = (),
    ) -> None:
        """Print, by the first process, what is trained on what.

        Args:
            config: resolved settings.
            rows: those of each part of the data.
            run_dir: the folder of the run.
            notes: what a person should know of the data, a line each.
        """
        if jax.process_index() == 0:
            sizes = ", ".join(f"{part} {len(rows[part]):,}" for part in rows)
            print(
                f"{config.model} with loss {config.loss} on {config.dataset}; run folder {run_dir}"
            )
            print(f"starts from {self.start}")
            print(f"{self.num_classes} classes; {self.examples} by split {config.split}: {sizes}")
            for note in notes:
                print(note)

    def not_finite(self, step: int) -> TrainingStopped:
        """Return the error of a validation, after this step, whose loss is not finite."""
        return TrainingStopped(
            f"The validation logits or loss of epoch {step // self.settings.steps_per_epoch} are "
            "not finite; the checkpoint of the epoch before is kept. Lower --learning-rate, or "
            "check the images."
        )


def make_parts(
    config: Config,
    class_counts: ClassCounts,
    *,
    num_examples: int,
    image_shape: tuple[int, ...],
    normalisation: Normalisation | None,
    model: nn.Module,
    starting_point: Callable[[], Variables | None],
    devices: Sequence[jax.Device] | None,
) -> dict[str, Any]:
    """Return what the programs of all tasks are made of, by the names of :class:`Program`.

    Args:
        config: resolved settings.
        class_counts: training examples, pixels or voxels per class, ``[C]``.
        num_examples: that an epoch goes through.
        image_shape: of one image ``(*space, channels)``.
        normalisation: of the images; None if they come normalised.
        model: with the mapped axis of the steps.
        starting_point: returns the variables to start from, None for random ones.
        devices: what the steps are for; by itself all devices there are.

    Raises:
        UserError: if the batch cannot be spread over the devices, or a class has no example.
    """
    _check_batch_size(config, jax.device_count() if devices is None else len(devices))
    steps_per_epoch = max(1, num_examples // config.batch_size)
    settings = StepSettings(
        steps_per_epoch=steps_per_epoch,
        total_steps=steps_per_epoch * config.epochs,
        seed=config.seed,
        dtype=jnp.dtype(config.precision),
        normalisation=normalisation,
        augment=config.augment,
        mixup=config.mixup,
        cutmix=config.cutmix,
        accumulate=config.accumulate,
        ema_decay=config.ema_decay,
    )
    plateau = None
    if config.schedule == "plateau":
        plateau = PlateauDecay(patience=config.decay_epochs, factor=config.decay_factor)
    schedule, optimizer = _learning(config, steps_per_epoch, plateau)
    objective = _objective(config, class_counts)
    return {
        "settings": settings,
        "num_classes": len(class_counts),
        "objective": objective,
        "schedule": schedule,
        "plateau": plateau,
        "initial_state": lambda: create_train_state(
            model, optimizer, image_shape, settings, starting_point()
        ),
        "state_shapes": lambda: train_state_shapes(model, optimizer, image_shape, settings),
        "train_step": make_train_step(model, objective, optimizer, settings, devices),
    }


def _check_batch_size(config: Config, device_count: int) -> None:
    shares = device_count * config.accumulate
    if config.batch_size % shares:
        raise UserError(
            f"--batch-size {config.batch_size} cannot be spread over {device_count} devices "
            f"and {config.accumulate} micro-batches; choose a multiple of {shares}."
        )


def _learning(
    config: Config, steps_per_epoch: int, plateau: PlateauDecay | None
) -> tuple[optax.Schedule, optax.GradientTransformation]:
    """Return the learning rate by step, before any decay on a plateau, and the optimizer."""
    if plateau is not None:
        schedule = optax.constant_schedule(config.learning_rate)
    else:
        schedule = step_decay(
            config.learning_rate,
            decay_epochs=config.decay_epochs,
            decay_factor=config.decay_factor,
            steps_per_epoch=steps_per_epoch,
        )
    optimizer = make_optimizer(
        config.optimizer, schedule, weight_decay=config.weight_decay, momentum=config.momentum
    )
    if plateau is not None:
        optimizer = optax.chain(optimizer, scale_by_plateau())
    if config.freeze_backbone:
        optimizer = train_head_only(optimizer)
    return schedule, optimizer


def _objective(config: Config, class_counts: ClassCounts) -> Objective:
    try:
        return build_objective(config, class_counts, head=config.head)
    except ValueError as error:
        raise UserError(str(error)) from error
