"""The table of tasks."""

from lmf_jax.cli.tasks.classification import CLASSIFICATION
from lmf_jax.cli.tasks.multilabel import MULTILABEL_TASK
from lmf_jax.cli.tasks.segmentation import SEGMENTATION
from lmf_jax.cli.tasks.task import Task as Task

TASKS: dict[str, Task] = {
    task.name: task for task in (CLASSIFICATION, SEGMENTATION, MULTILABEL_TASK)
}
"""Every task by its name, the value of ``--task``."""
