"""The columns of ``evaluate RUN --subgroups``."""

from typing import Any

from lmf_jax.cli.tasks.task import Task
from lmf_jax.errors import UserError


def subgroup_columns(task: Task, text: str, dataset: Any) -> list[str]:
    """Return the columns of ``--subgroups``, checked before the test, which takes a while.

    Args:
        task: The task of the run.
        text: Names of columns of the metadata, separated by commas.
        dataset: The dataset of the test.

    Raises:
        UserError: If the task has no subgroups, or the dataset has no such column.
    """
    columns = [column.strip() for column in text.split(",") if column.strip()]
    if columns and task.format_subgroups is None:
        raise UserError(f"--subgroups is not for runs of --task {task.name}; leave it out.")
    metadata = getattr(dataset, "metadata", {})  # volumes have none
    for column in columns:
        if column not in metadata:
            known = f"expected one or several of {', '.join(metadata)}"
            raise UserError(
                f"--subgroups names the column {column!r}; "
                f"{known if metadata else 'the dataset has no metadata'}."
            )
    return columns
