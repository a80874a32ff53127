"""The run that training returns to a notebook or a script."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lmf_jax.cli.tasks import TASKS
from lmf_jax.runs.files import common_task


@dataclass(frozen=True)
class Run:
    """A run that was trained and tested.

    Attributes:
        folder: The run folder.
        model: The model with the variables of the best epoch, a ``TrainedClassifier`` (see its
            ``probabilities``) or a ``TrainedSegmenter`` (``segment``); None for a
            cross-validation, whose folds each have one, and for a fold that was finished before.
    """

    folder: Path
    model: Any = field(default=None, repr=False)

    @cached_property
    def results(self) -> Any:
        """The files of the run folder, a ``FinishedRun`` or ``FinishedSegmentation``."""
        return TASKS[common_task([self.folder])].read_run(self.folder)
