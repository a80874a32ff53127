"""``python -m lmf_jax compare RUN RUN``: intervals and paired tests of the differences."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from lmf_jax.evaluation.classification.comparison import compare_runs, format_comparison
from lmf_jax.evaluation.segmentation.comparison import (
    compare_segmentation_runs,
    format_segmentation_comparison,
)
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
        print(format_segmentation_comparison(compare_segmentation_runs(options.runs)))
    else:
        print(format_comparison(compare_runs(options.runs)))
