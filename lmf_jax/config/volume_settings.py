"""Settings of classifiers of whole volumes, and the check that settings fit images or volumes."""

from typing import Any

from lmf_jax.config.config import Config
from lmf_jax.config.image_spec import format_size, is_of_volumes
from lmf_jax.errors import UserError

VOLUME_DEFAULTS: dict[str, Any] = {"model": "resnet18_3d", "image_size": (32, 64, 64)}
"""Defaults of datasets of whole volumes: a size with which a batch fits into the memory of a
laptop."""


def fit_to_dims(config: Config, dims: int) -> Config:
    """Return the settings for the examples of a dataset.

    Volumes have one channel, and one number as their size is the side of a cube.

    Args:
        config: Settings of the user, which may be open.
        dims: 3 if the examples are whole volumes, else 2.

    Raises:
        UserError: If the model, the size or the recipe is for the other kind of examples.
    """
    from lmf_jax.models.registry import get_model, registered_models  # loads Flax

    name, given, size = config.dataset_name, config.model.model, config.data.image_size
    has, other = ("images", "volumes") if dims == 2 else ("volumes", "images")
    if given is not None and dims not in get_model(given).spatial_dims:
        task = get_model(given).task
        fitting = [m.name for m in registered_models() if m.task == task and dims in m.spatial_dims]
        raise UserError(
            f"--model {given} takes {other}, and {name} has {has}; use --model "
            f"{' or '.join(fitting)}."
        )
    if isinstance(size, tuple) and is_of_volumes(size) != (dims == 3):
        expected = "DEPTH,HEIGHT,WIDTH" if dims == 3 else "HEIGHT,WIDTH"
        raise UserError(
            f"--image-size {format_size(size)} is of {other}, and {name} has {has}; give one "
            f"number, or {expected}."
        )
    if dims == 2:
        return config
    if config.training.recipe == "paper":
        raise UserError(f"--recipe paper is for images, and {name} has volumes; leave it out.")
    return config.replace(channels=1, image_size=(size,) * 3 if isinstance(size, int) else size)
