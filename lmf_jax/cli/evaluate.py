"""``python -m lmf_jax evaluate RUN``: evaluate the best epoch of a run again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lmf_jax.cli.arguments import RunDir
from lmf_jax.cli.tasks import TASKS
from lmf_jax.evaluation import write_report
from lmf_jax.runs.files import common_task


@dataclass(frozen=True)
class Evaluate:
    """Evaluate the best epoch of a run on a part of its data; every metric has an interval."""

    run: RunDir
    part: Literal["test", "validation", "train"] = "test"
    """The part of the data; test also rewrites test.json, predictions.npz and the report."""
    data_dir: str | None = None
    """The folder of prepared datasets and image caches (default: that of the run)."""


def run_evaluate(options: Evaluate) -> None:
    """Evaluate a part of the data and print the table of its metrics."""
    task = TASKS[common_task([options.run])]
    model = task.load_model(options.run)
    inputs = task.inputs_of_run(model, options.data_dir)
    if options.part == "test":
        results = task.test(model, Path(options.run), inputs)
        print(task.format_table(results, inputs, "test"))
        print(f"report: {write_report(options.run)}")
    else:
        print(task.format_table(task.summarize(model, inputs, options.part), inputs, options.part))
        print(f"The best epoch was chosen on the validation images; {options.part} is no test.")
