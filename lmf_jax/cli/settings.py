"""Resolve the settings of a run: its recipe, and the initial weights of images of the user."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from lmf_jax.config import Config, ResolvedConfig, format_size
from lmf_jax.config.recipes import RECIPES, TrainingPart
from lmf_jax.config.volume_settings import fit_to_dims
from lmf_jax.models.starting_weights import (
    StartingWeights,
    find_starting_weights,
    model_of_file,
)
from lmf_jax.models.weight_files import fetch_weights, is_address
from lmf_jax.runs.folder import has_record, read_config


class Resolution(NamedTuple):
    """Resolved settings, and what to print about their origin, one line each."""

    config: ResolvedConfig
    notes: tuple[str, ...] = ()


def resolve_settings(config: Config, dataset: Any) -> Resolution:
    """Resolve the settings that are not given; a resumed run has those of its ``config.json``.

    Args:
        config: The settings of the user, or settings that are resolved already and stay as they
            are.
        dataset: The dataset with its split.

    Raises:
        UserError: If a setting does not fit, or the settings of the run cannot be read.
    """
    if isinstance(config, ResolvedConfig):
        return Resolution(config)
    config = fit_to_dims(config, 3 if dataset.whole_volumes else 2)
    if config.run.resume and has_record(config.run.run_dir):
        recorded = read_config(config.run.run_dir).settings()
        kept = {name: recorded[name] for name in ResolvedConfig.resolved_names()}
        return Resolution(config.resolve(kept))
    from data.registry import find_dataset  # opens no file

    spec, recipe = find_dataset(config.dataset_name), RECIPES[config.training.recipe]
    is_own_data = spec is not None and spec.settings_by_size
    weights = None
    if is_own_data and recipe.finds_weights and not dataset.whole_volumes:  # none are known
        weights = _starting_weights(config)
    pretrained = config.model.pretrained if weights is None else weights.pretrained
    part = TrainingPart(
        num_images=len(dataset.rows["train"]),
        num_classes=len(dataset.class_names),
        image_size=config.data.image_size or dataset.defaults.get("image_size"),
        pretrained=pretrained not in (None, "none"),
        is_own_data=is_own_data,
    )
    chosen = recipe.settings(part)
    notes = (_describe(config, chosen, part),) if is_own_data else ()
    if weights is None:
        return Resolution(config.resolve(dataset.defaults, chosen), notes)
    found = {"pretrained": weights.pretrained, "model": weights.model or config.model_name}
    resolved = config.resolve(dataset.defaults, {**chosen, **found})
    return Resolution(resolved, (*filter(None, (weights.note,)), *notes))


def _starting_weights(config: Config) -> StartingWeights:
    """Return the given weights with the model of their file, or the weights that are found."""
    given = config.model.pretrained
    if given is not None:
        file = fetch_weights(given) if is_address(given) else Path(given)
        return StartingWeights(given, model_of_file(file), note="")
    weights = find_starting_weights(config.model.model)
    if not _is_same_everywhere(f"{weights.model} {Path(weights.pretrained).name}"):
        note = (
            "no ImageNet weights, so training starts from random ones: they are not the same on "
            "all hosts; give --pretrained FILE on a disk that every host has mounted"
        )
        return StartingWeights("none", None, note)
    return weights


def _is_same_everywhere(text: str) -> bool:
    """Return whether all processes have the same text."""
    if jax.process_count() == 1:
        return True
    row = np.zeros(256, np.uint8)
    encoded = text.encode()[: len(row)]
    row[: len(encoded)] = np.frombuffer(encoded, np.uint8)
    rows = multihost_utils.process_allgather(row)
    return bool((rows == rows[:1]).all())


def _describe(config: Config, chosen: Mapping[str, Any], part: TrainingPart) -> str:
    """Return the line on the settings that the recipe has chosen."""
    given = config.settings()
    texts = {
        name: f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in {**chosen, "image_size": format_size(chosen["image_size"])}.items()
    }
    flags = " ".join(
        f"--{name.replace('_', '-')} {text}" for name, text in texts.items() if given[name] is None
    )
    return f"--recipe {config.training.recipe} for {part.num_images:,} training images: {flags}"
