"""Checks of the settings; an error names the flag, its value and what is expected."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_type_hints

from lmf_jax.config.image_spec import ImageSize, format_size, height_and_width, is_of_volumes
from lmf_jax.config.recipes import RECIPES
from lmf_jax.config.sections import DataConfig, ModelConfig, RunConfig, TrainingConfig
from lmf_jax.config.task_settings import TASK_SETTINGS
from lmf_jax.config.value_types import fits, shown
from lmf_jax.errors import UserError
from lmf_jax.losses.loss_config import LossConfig

MAX_FOLDS = 1000


def _at_least(low: int) -> Callable[[Any], bool]:
    return lambda value: low <= value < math.inf


def _is_large_enough(size: ImageSize) -> bool:
    has_slices = not isinstance(size, tuple) or len(size) == 2 or size[0] >= 8
    return has_slices and min(height_and_width(size)) >= 32


RANGES: dict[str, tuple[tuple[str, ...], Callable[[Any], bool]]] = {
    "at least 0": (("gamma",), _at_least(0)),
    "at least 1": (("imbalance_ratio",), _at_least(1)),
    "at least 32 pixels, and 8 slices of a volume": (
        ("image_size",),
        _is_large_enough,
    ),
    "3 (RGB) or 1 (gray), which are the channels that images are read with": (
        ("channels",),
        lambda channels: channels in (1, 3),
    ),
    "a number of at least 0": (
        ("alpha", "beta", "tau", "weight_decay", "mixup", "cutmix", "watchdog_minutes"),
        _at_least(0),
    ),
    "a number above 0": (
        ("scale", "max_margin", "learning_rate"),
        lambda value: 0 < value < math.inf,
    ),
    "a whole number of at least 1": (
        ("epochs", "batch_size", "accumulate", "decay_epochs", "num_processes", "fold"),
        _at_least(1),
    ),
    f"a whole number from 2 to {MAX_FOLDS:,}": (("folds",), lambda value: 2 <= value <= MAX_FOLDS),
    "a whole number of at least 0": (
        ("early_stopping", "checkpoint_steps", "process_id"),
        _at_least(0),
    ),
    "a whole number in [0, 2**32)": (  # JAX drops the bits above
        ("split_seed", "seed"),
        lambda value: 0 <= value < 2**32,
    ),
    "a number in [0, 1)": (
        ("ema_decay", "effective_number_beta", "momentum", "overlap"),
        lambda value: 0 <= value < 1,
    ),
    "a number in [0, 1]": (
        (
            *("drw_start", "decay_factor", "delta", "weight", "background_weight"),
            "foreground_share",
        ),
        lambda value: 0 <= value <= 1,
    ),
    "a folder of a disk; a bucket has to be mounted first": (
        ("run_dir", "data_dir"),
        lambda value: "://" not in value,
    ),
}
"""The settings with a range and its test, by the text of the range in errors."""


def check_values(settings: Mapping[str, Any], section_types: Mapping[str, type]) -> None:
    """Refuse invalid values of single settings.

    Args:
        settings: All settings by name.
        section_types: The dataclass of each section.

    Raises:
        UserError: If a value is invalid; it names the flag, its value and what is expected.
    """
    from lmf_jax.models.registry import model_names  # loads Flax

    kinds = _kinds(*section_types.values())
    kinds |= {"model": Literal[model_names()] | None, "recipe": Literal[tuple(RECIPES)]}
    for name, kind in kinds.items():
        _check(name, settings[name], fits(settings[name], kind), shown(kind))
    losses = TASK_SETTINGS[settings["task"]].loss_names()
    expected = f"one of {', '.join(losses)}, or a loss whose file was imported"
    _check("loss", settings["loss"], settings["loss"] in losses, expected)
    for expected, (names, is_in_range) in RANGES.items():
        for name in names:
            value = settings[name]
            _check(name, value, value is None or is_in_range(value), expected)
    for name, value in settings.items():
        # Other bytes in a path become surrogates, which config.json cannot hold.
        _check(name, value, not isinstance(value, str) or _is_utf8(value), "a name in UTF-8")


def check_combinations(
    data: DataConfig,
    model: ModelConfig,
    loss: LossConfig,
    training: TrainingConfig,
    run: RunConfig,
) -> None:
    """Refuse settings that exclude each other; ``model.model`` must be set.

    Raises:
        UserError: If two settings exclude each other; it names the flags and what to do.
    """
    from lmf_jax.models.registry import get_model, model_names  # loads Flax

    spec = get_model(str(model.model))
    task = TASK_SETTINGS[data.task]
    if spec.task != task.models:
        raise UserError(
            f"--model {spec.name} is for --task {spec.task}; use one of "
            f"{', '.join(model_names(task.models))} with --task {data.task}."
        )
    _check_task(data.task, vars(data) | vars(model) | vars(training))
    if model.head == "cosine" and loss.loss not in task.cosine_losses():
        raise UserError(
            f"--head cosine does not go with --loss {loss.loss}; use one of "
            f"{', '.join(task.cosine_losses())}, or --head linear."
        )
    if model.freeze_backbone and model.pretrained == "none":
        raise UserError("--freeze-backbone would keep random weights; give --pretrained with it.")
    if training.mixup and training.cutmix:
        raise UserError("--mixup and --cutmix were both given; choose one.")
    if is_of_volumes(data.image_size):
        _check_volumes(data, training)
    elif training.augment == "dihedral" and isinstance(data.image_size, tuple):
        raise UserError(
            f"--augment dihedral turns images by 90 degrees, and --image-size "
            f"{format_size(data.image_size)} is not a square; use --augment flip or a square."
        )
    _check_batch(training, spec.has_batch_norm)
    if run.resume and not run.run_dir:
        raise UserError("--resume needs --run-dir, the folder of the run to continue.")
    _check_folds(data, run)
    _check_processes(run)


def _check_volumes(data: DataConfig, training: TrainingConfig) -> None:
    """Refuse settings that have no meaning for whole volumes."""
    if training.augment == "dihedral":
        raise UserError(
            "--augment dihedral turns images by 90 degrees within a plane, which is not defined "
            "for volumes; use --augment flip, shift or mirror."
        )
    if training.cutmix:
        raise UserError("--cutmix pastes boxes of images, not of volumes; use --mixup.")
    if data.resize != "stretch":
        raise UserError(
            f"--resize {data.resize} is for images; volumes are resampled to --image-size, so "
            "leave it out."
        )


def _check_batch(training: TrainingConfig, has_batch_norm: bool) -> None:
    batch_size, accumulate = training.batch_size, training.accumulate
    if batch_size is not None and batch_size % accumulate:
        raise UserError(
            f"--accumulate {accumulate} does not divide --batch-size {batch_size}; choose a "
            "divisor."
        )
    if has_batch_norm and (batch_size or math.inf) < 2 * accumulate:
        raise UserError(
            f"--batch-size {batch_size} in {accumulate} micro-batches leaves one image, and batch "
            "norm needs two; choose a larger batch or fewer micro-batches."
        )


def _check_folds(data: DataConfig, run: RunConfig) -> None:
    folds, fold = data.folds, data.fold
    if fold is not None and folds is None:
        raise UserError(f"--fold {fold} is one of several folds; give their number with --folds.")
    if folds is not None and fold is not None and fold > folds:
        raise UserError(
            f"--fold is {fold} of --folds {folds}; expected a number from 1 to {folds}."
        )
    if fold is not None and not run.run_dir:
        raise UserError(
            f"--fold {fold} needs --run-dir, the folder in which all folds come together."
        )
    if folds is not None and data.split == "official":
        raise UserError(
            f"--folds {folds} makes its own test parts, and --split official is that of the "
            "dataset; choose grouped or paper."
        )
    if folds is not None and run.distributed == "auto":
        raise UserError(
            f"--folds {folds} does not go with --distributed auto: start independent processes "
            "with the same --run-dir and --resume; they share the folds."
        )


def _check_task(task: str, settings: Mapping[str, Any]) -> None:
    """Refuse settings that have no meaning in a task."""
    for name, values in TASK_SETTINGS[task].allowed.items():
        expected = " or ".join(str(value) for value in values if value is not None)
        expected = f"{expected or 'no value'} with --task {task}"
        _check(name, settings[name], settings[name] in values, expected)


def _check_processes(run: RunConfig) -> None:
    number, count = run.process_id, run.num_processes
    connection = (run.coordinator_address, number, count)
    if run.distributed == "off" and any(value is not None for value in connection):
        raise UserError(
            "--coordinator-address, --num-processes and --process-id connect several processes; "
            "give --distributed auto with them."
        )
    if number is not None and count is not None and number >= count:
        raise UserError(
            f"--process-id is {number} and --num-processes {count}; expected numbers from 0 to "
            f"{count - 1}."
        )


@functools.cache
def _kinds(*sections: type) -> dict[str, Any]:
    """Return the type of each setting by name."""
    kinds: dict[str, Any] = {}
    for section in sections:
        hints = get_type_hints(section)
        kinds |= {field.name: hints[field.name] for field in dataclasses.fields(section)}
    return kinds


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check(name: str, value: Any, is_valid: bool, expected: str) -> None:
    if not is_valid:
        given = format_size(value) if name == "image_size" else value
        raise UserError(f"--{name.replace('_', '-')} is {given}; expected {expected}.")
