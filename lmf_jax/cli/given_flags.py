"""Refuse flags that have no effect in combination with the others.

A configuration has a value for every flag, so only the command line tells which were given.
"""

from collections.abc import Collection, Iterator, Sequence

from lmf_jax.config import Config
from lmf_jax.config.task_settings import TASK_SETTINGS
from lmf_jax.errors import UserError
from lmf_jax.losses.loss_config import LOSS_OPTIONS
from lmf_jax.losses.registry import losses_with


def given_flags(words: Sequence[str]) -> set[str]:
    """Return the names of the settings that are given on a command line.

    Args:
        words: The command line after the name of the program.
    """
    names = set(Config.setting_fields())
    flags = {word[2:].partition("=")[0].replace("-", "_") for word in words if word[:2] == "--"}
    return names & (flags | {flag.removeprefix("no_") for flag in flags})


def check_given(config: Config, given: Collection[str]) -> None:
    """Refuse a given flag that has no effect.

    Args:
        config: All settings.
        given: The names of the given settings.

    Raises:
        UserError: If a given flag has no effect; it names the reason and a remedy.
    """
    for name, reason, remedy in _without_effect(config):
        if name in given:
            flag = f"--{name.replace('_', '-')}"
            raise UserError(f"{flag} has no effect {reason}; leave it out, or {remedy}.")


def _without_effect(config: Config) -> Iterator[tuple[str, str, str]]:
    """Yield each setting without effect, the reason, and a remedy."""
    training, form = config.training, config.loss.form
    task = TASK_SETTINGS[config.data.task]
    loss = task.get_loss(config.loss.loss)
    for option in LOSS_OPTIONS:
        is_sampled = option == "effective_number_beta" and training.sampling == "effective-number"
        if option not in loss.options_in(form) and not is_sampled:
            of_form = f" --form {form}" if option in loss.options else ""
            losses = task.losses_with(option, form) or losses_with(option, form)
            if not losses:  # a field that no imported loss reads
                continue
            yield option, f"with --loss {loss.name}{of_form}", f"use --loss {_one_of(losses)}"
    if training.optimizer != "sgd":
        optimizer = training.optimizer or "adamw"
        yield "momentum", f"with --optimizer {optimizer}", "use --optimizer sgd"
    if config.run.resume:
        yield "recipe", "with --resume, which keeps the settings of the run", "start a new run"
    dataset = config.dataset_name
    from data.registry import has_volumes, registered_datasets  # opens no file

    specs = registered_datasets().values()
    use_volumes = f"use --dataset {_one_of([spec.form for spec in specs if spec.has_volumes])}"
    if has_volumes(dataset):
        volumes = f"on the volumes of {dataset}"
        yield "image_size", volumes, "give --patch-size"
        yield "resize", volumes, "use a dataset of images"
        yield "channels", volumes, "use a dataset of images"
        yield "normalization", volumes, "use a dataset of images"
        yield "cache", volumes, "use a dataset of images"
    else:
        for name in ("overlap", "foreground_share"):
            yield name, f"on the images of {dataset}", use_volumes
    balanced = [spec.name for spec in specs if "imbalance_ratio" in spec.defaults]
    if dataset not in balanced:
        choices = f"use --dataset {_one_of(balanced)}"
        yield "imbalance_ratio", f"with --dataset {dataset}", choices


def _one_of(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
