"""``python -m lmf_jax compare RUN RUN``: intervals and paired tests of the differences."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from lmf_jax.evaluation import classification, segmentation
from lmf_jax.runs.files import SEGMENTATION, common_task


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
    if options.runs and common_task(options.runs) == SEGMENTATION:
        print(segmentation.format_comparison(segmentation.compare_runs(options.runs)))
    else:
        print(classification.format_comparison(classification.compare_runs(options.runs)))
