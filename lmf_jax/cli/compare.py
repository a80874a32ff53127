"""``python -m lmf_jax compare RUN RUN``: intervals and paired tests of the differences."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from lmf_jax.cli.tasks import TASKS
from lmf_jax.runs.files import common_task


@dataclass(frozen=True)
class Compare:
    """Compare runs on the same test images or cases: differences, intervals and p-values."""

    runs: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN", help="The folders of two or more runs."),
    ]


def run_compare(options: Compare) -> None:
    """Print the tables of a comparison."""
    task = common_task(options.runs) if options.runs else "classification"
    print(TASKS[task].compare(options.runs))
