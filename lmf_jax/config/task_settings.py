"""Settings that depend on the task: its defaults, its losses, and the flags that it restricts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lmf_jax.losses.registry import registered_losses


@dataclass(frozen=True)
class TaskSettings:
    """A task as the configuration sees it.

    Attributes:
        dataset: The default dataset.
        model: The default architecture.
        losses: The tasks of the losses that can train it; label maps are trained by the losses of
            both tasks.
        allowed: The values that a setting may have; settings that are not named may have any.
    """

    dataset: str
    model: str
    losses: tuple[str, ...]
    allowed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def loss_names(self) -> tuple[str, ...]:
        """Return the names of the losses that can train the task."""
        return tuple(spec.name for spec in registered_losses() if spec.task in self.losses)


TASK_SETTINGS = {
    "classification": TaskSettings("digits_lt", "resnet50", losses=("classification",)),
    "segmentation": TaskSettings(
        "digits_masks",
        "unet",
        losses=("classification", "segmentation"),
        allowed={
            "head": ("linear",),
            "pretrained": (None, "none"),
            "recipe": ("auto",),
            "sampling": ("uniform",),
            "mixup": (0.0,),
            "cutmix": (0.0,),
            "augment": (None, "none", "flip", "dihedral", "mirror"),
        },
    ),
}
"""Every task, by the value of ``--task``."""
