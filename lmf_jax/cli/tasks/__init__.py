"""The table of tasks."""

from lmf_jax.cli.tasks.classification import CLASSIFICATION
from lmf_jax.cli.tasks.segmentation import SEGMENTATION
from lmf_jax.cli.tasks.task import Task as Task

TASKS: dict[str, Task] = {task.name: task for task in (CLASSIFICATION, SEGMENTATION)}
"""Every task by its name, the value of ``--task``."""
