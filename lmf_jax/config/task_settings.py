"""Settings that depend on the task: its defaults, its losses, and the flags that it restricts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lmf_jax.losses.loss_config import Form
from lmf_jax.losses.registry import LossSpec, get_loss
from lmf_jax.losses.registry import Task as LossTask
from lmf_jax.losses.registry import loss_names as names_of_losses


@dataclass(frozen=True)
class TaskSettings:
    """A task as the configuration sees it.

    Attributes:
        dataset: The default dataset.
        model: The default architecture.
        losses: The tasks of the losses that can train it; label maps are trained by the losses of
            both tasks.
        models: The task of the architectures that can be trained.
        allowed: The values that a setting may have; settings that are not named may have any.
    """

    dataset: str
    model: str
    losses: tuple[LossTask, ...]
    models: Literal["classification", "segmentation"]
    allowed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def loss_names(self) -> tuple[str, ...]:
        """Return the names of the losses that can train the task."""
        return tuple(name for task in self.losses for name in names_of_losses(task))

    def get_loss(self, name: str) -> LossSpec:
        """Return the registered loss of one of these names."""
        return next(get_loss(name, task) for task in self.losses if name in names_of_losses(task))

    def cosine_losses(self) -> tuple[str, ...]:
        """Return the names of the losses that can train a cosine head."""
        return tuple(n for n in self.loss_names() if self.get_loss(n).logit_scale is not None)

    def losses_with(self, option: str, form: Form) -> tuple[str, ...]:
        """Return the names of the losses that have an option."""
        return tuple(n for n in self.loss_names() if option in self.get_loss(n).options_in(form))


TASK_SETTINGS = {
    "classification": TaskSettings(
        "digits_lt",
        "resnet50",
        losses=("classification",),
        models="classification",
        allowed={"pair_by": (None,)},
    ),
    "multilabel": TaskSettings(
        "digits_multilabel",
        "resnet50",
        losses=("multilabel",),
        models="classification",
        allowed={
            "imbalance_ratio": (None,),
        },
    ),
    "segmentation": TaskSettings(
        "digits_masks",
        "unet",
        losses=("classification", "segmentation"),
        models="segmentation",
        allowed={
            "head": ("linear",),
            "metadata": (None,),
            "pair_by": (None,),
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
