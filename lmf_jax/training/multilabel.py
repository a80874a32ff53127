"""The program of a multi-label run, with its validation metrics."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np
from jaxtyping import Int64

from lmf_jax.config import ResolvedConfig
from lmf_jax.distributed.devices import Batch, Variables
from lmf_jax.evaluation.multilabel.scores import score_labels
from lmf_jax.losses import build_multilabel_objective
from lmf_jax.losses.label_vectors import MISSING
from lmf_jax.training.classification import ImageProgram, make_image_parts
from lmf_jax.training.program import Validation


@dataclass(frozen=True, kw_only=True)
class Multilabel(ImageProgram):
    """A run that trains a model of several labels."""

    score: ClassVar[str] = "val_map"

    @property
    def label_range(self) -> tuple[int, int]:
        """Labels are 0 or 1, or -1 if they are missing."""
        return MISSING, 1

    def validate(self, variables: Variables, batches: Iterable[Batch], step: int) -> Validation:
        """Return loss, mean average precision and macro AUROC of the validation images."""
        logits, labels, loss = self.predict_validation(variables, batches, step)
        metrics = score_labels(labels, logits)
        return Validation(
            {
                "val_loss": loss,
                "val_map": float(metrics.mean_average_precision),
                "val_auroc": float(metrics.mean_auroc),
            }
        )


def make_multilabel(
    config: ResolvedConfig,
    label_counts: Int64[np.ndarray, "labels 2"],
    num_examples: int,
    devices: Sequence[jax.Device] | None = None,
    metadata_widths: Sequence[int] = (),
) -> Multilabel:
    """Build the program of a multi-label run.

    Args:
        config: All settings.
        label_counts: Training examples without and with each label, ``[C, 2]``.
        num_examples: Training images.
        devices: The devices of the steps (default: all).
        metadata_widths: Features of each metadata column beside the image.

    Raises:
        UserError: As :func:`lmf_jax.training.classification.make_classification`.
    """
    negative, positive = label_counts.T
    return Multilabel(
        **make_image_parts(
            config,
            lambda: build_multilabel_objective(
                config.loss, positive, negative, head=config.model.head
            ),
            num_classes=len(label_counts),
            num_examples=num_examples,
            devices=devices,
            metadata_widths=metadata_widths,
        )
    )
