"""Refuse commands and flags that a task does not have."""

from lmf_jax.errors import UserError
from lmf_jax.runs.files import read_record, task_of


def require_task(command: str, run_dir: str, *tasks: str) -> None:
    """Refuse a run of another task.

    Args:
        command: The name of the command.
        run_dir: The folder of the run.
        tasks: The tasks that the command takes.

    Raises:
        UserError: If the run has another task, or there is no run.
    """
    task = task_of(read_record(run_dir))
    if task not in tasks:
        raise UserError(
            f"The command {command} is for --task {' and '.join(tasks)}, and the task of the run "
            f"in {run_dir} is {task}."
        )


def one_model_needed(flag: str, run_dir: str) -> UserError:
    """Return the error for a flag with thresholds of one run, given with an ensemble."""
    return UserError(
        f"{flag} uses thresholds that were chosen for the probabilities of one run; predict with "
        f"one run, without --ensemble and --tta ({run_dir} is averaged)."
    )


def refuse_flag(flag: str, task: str) -> UserError:
    """Return the error for a flag of a command that a task does not have."""
    return UserError(f"{flag} is not available for runs of --task {task}; leave it out.")
