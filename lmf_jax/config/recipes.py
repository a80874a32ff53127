"""Recipes: by the value of ``--recipe``, where the settings that are not given come from.

A recipe is a function from facts on the training part to settings. To add one, add a line to
``RECIPES``; the flag, its check and its help follow from it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lmf_jax.config.image_spec import ImageSize
from lmf_jax.config.own_data import own_data_settings


@dataclass(frozen=True)
class TrainingPart:
    """Facts that a recipe may depend on.

    Attributes:
        num_images: Images of the training part.
        num_classes: Classes.
        image_size: Size of the images, if it is given.
        pretrained: Whether training starts from pretrained weights.
        is_own_data: Whether the dataset consists of images of the user without known settings.
    """

    num_images: int
    num_classes: int
    image_size: ImageSize | None
    pretrained: bool
    is_own_data: bool


@dataclass(frozen=True)
class Recipe:
    """Origin of the settings that are not given.

    Attributes:
        summary: One line for the help.
        settings: Returns settings that replace the defaults of the dataset.
        finds_weights: Whether the initial weights of own images are looked for, see
            :func:`lmf_jax.models.starting_weights.find_starting_weights`.
    """

    summary: str
    settings: Callable[[TrainingPart], Mapping[str, Any]]
    finds_weights: bool = False


PAPER_DEFAULTS: Mapping[str, Any] = {
    "image_size": 224,
    "epochs": 100,
    "batch_size": 32,
    "learning_rate": 1e-4,
    "decay_epochs": 30,
    "augment": "none",
    "ema_decay": 0.0,
}
"""Settings of Sadi et al. that are the defaults of datasets without their own."""

PAPER_SETTINGS: Mapping[str, Any] = {
    **PAPER_DEFAULTS,
    "model": "resnet50",
    "pretrained": "imagenet",
    "normalization": "unit",
    "optimizer": "adam-l2",
}
"""All settings of Sadi et al.; ``benchmarks/paper/recipe.py`` has their sources."""


def _auto(part: TrainingPart) -> Mapping[str, Any]:
    if not part.is_own_data:
        return {}
    return own_data_settings(
        part.num_images, part.num_classes, part.image_size, pretrained=part.pretrained
    )


RECIPES: Mapping[str, Recipe] = {
    "auto": Recipe(
        "folder: and manifest: by the size of the training part, from ImageNet weights; other "
        "datasets by their own defaults",
        _auto,
        finds_weights=True,
    ),
    "paper": Recipe("all as in the LMF paper", lambda part: PAPER_SETTINGS),
}
"""Every recipe, by its name in ``--recipe``."""
