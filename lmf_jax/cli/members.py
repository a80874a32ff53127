"""The models of a command: that of a run, or an ensemble of runs, folds and views."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmf_jax.cli.tasks.task import Task
from lmf_jax.config import format_size
from lmf_jax.errors import UserError
from lmf_jax.inference.views import VIEWS, Tta
from lmf_jax.runs.folds import member_dirs


def load_ensemble(task: Task, run_dirs: Sequence[str | Path], tta: Tta) -> Any:
    """Read the models of one or several runs and average them over views.

    Args:
        task: The task of all runs.
        run_dirs: The folders of the runs, at least one; a cross-validation stands for its folds.
        tta: The views of each image.

    Raises:
        UserError: If there is no such run, a run is repeated, or the runs differ in their classes
            or in the images that they take.
    """
    run_dirs = member_dirs(run_dirs)
    resolved = [Path(run_dir).resolve() for run_dir in run_dirs]
    for index, run_dir in enumerate(run_dirs):
        if resolved[index] in resolved[:index]:
            raise UserError(f"The run in {run_dir} is given twice; give each run once.")
    models = tuple(task.load_model(run_dir) for run_dir in run_dirs)
    nouns = (
        *("classes", "image size", "resizing", "channels", "patch size", "intensity range"),
        *("modalities", "voxel size", "crop of borders of 0"),
    )
    for run_dir, model in zip(run_dirs[1:], models[1:], strict=True):
        for noun, first, other in zip(nouns, _inputs(models[0]), _inputs(model), strict=True):
            if first != other:
                raise UserError(
                    f"The {noun} of the run in {run_dirs[0]} ({first}) is not that of {run_dir} "
                    f"({other}); average runs with equal classes and inputs."
                )
    return task.ensemble(models, VIEWS[tta])


def load_predictor(task: Task, run_dirs: Sequence[str | Path], tta: Tta) -> Any:
    """Read the model of a run, or the ensemble of several models or views.

    Arguments and exceptions are those of :func:`load_ensemble`.
    """
    run_dirs = member_dirs(run_dirs)
    if len(run_dirs) == 1 and tta == "none":
        return task.load_model(run_dirs[0])
    return load_ensemble(task, run_dirs, tta)


def cost_line(num_models: int, tta: Tta) -> str:
    """Return the line that says how many predictions are averaged for each image."""
    views = len(VIEWS[tta])
    return (
        f"mean of {num_models} model{'s' if num_models > 1 else ''} and {views} "
        f"view{'s' if views > 1 else ''} of each image: {num_models * views} predictions an image"
    )


def _inputs(model: Any) -> tuple[Any, ...]:
    data = model.config.data
    return (
        ", ".join(model.class_names),
        format_size(data.image_size),
        data.resize,
        data.channels,
        data.patch_size,
        model.dataset.get("intensity_range"),
        model.dataset.get("modalities"),
        model.dataset.get("spacing"),
        (model.dataset.get("plan") or {}).get("crop"),
    )
