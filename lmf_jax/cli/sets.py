"""``python -m lmf_jax sets RUN --level 0.9``: prediction sets with a promised coverage."""

from dataclasses import dataclass

from lmf_jax.cli.arguments import RunDir
from lmf_jax.cli.supported_tasks import require_task
from lmf_jax.errors import UserError
from lmf_jax.evaluation.classification.run import read_run
from lmf_jax.evaluation.conformal.file import write_sets
from lmf_jax.evaluation.conformal.summary import Part, format_sets, summarize_sets
from lmf_jax.evaluation.report import write_report
from lmf_jax.runs.files import CLASSIFICATION
from lmf_jax.runs.folds import require_single_run


@dataclass(frozen=True)
class Sets:
    """Calibrate prediction sets on the validation part and check them on the test part.

    The set of an image has the classes that cannot be excluded at the level. The thresholds are
    stored in prediction_sets.json, and predict --sets uses them.
    """

    run: RunDir
    level: float = 0.9
    """Fraction of the new images of each class whose set contains the class, between 0 and 1."""


def run_sets(options: Sets) -> None:
    """Write the prediction sets of a run and its report, and print the table of the classes."""
    if not 0 < options.level < 1:
        raise UserError(
            f"--level is {options.level:g}; expected a number between 0 and 1, such as 0.9."
        )
    require_task("sets", options.run, CLASSIFICATION)
    require_single_run(options.run)
    run = read_run(options.run)
    if run.validation is None:
        raise UserError(
            f"The run in {options.run} has no predictions of its validation part; run "
            f"python -m lmf_jax evaluate {options.run} first."
        )
    validation, test = (
        Part(part.labels, run.calibrator.probabilities(part.logits), part.groups)
        for part in (run.validation, run)
    )
    sets = summarize_sets(validation, test, run.dataset["class_names"], level=options.level)
    path = write_sets(options.run, sets, run.calibrator)
    print(format_sets(sets))
    print(f"prediction sets: {path}")
    print(f"report: {write_report(options.run)}")
