"""Train, test and report: ``python train.py --loss lmf --alpha 1 --beta 0.5``.

From Python: ``from train import train; run = train(Config.of(loss="lmf", epochs=2))``.
"""

import sys

import jax

from lmf_jax.errors import run_command
from lmf_jax.extras import MissingPackageError, extra_packages

try:
    with extra_packages("train", needed_by="Training"):
        from data.shard import Shard
        from lmf_jax.cli.command_line import parse_config
        from lmf_jax.cli.cross_validation import cross_validate
        from lmf_jax.cli.settings import resolve_settings
        from lmf_jax.cli.tasks import TASKS
        from lmf_jax.cli.trained_run import Run
        from lmf_jax.config import Config
        from lmf_jax.distributed.initialize import initialize
        from lmf_jax.evaluation import write_report
        from lmf_jax.runs.files import read_record
        from lmf_jax.runs.folder import has_record, open_run, read_config
        from lmf_jax.training.loop import fit
except MissingPackageError as error:
    if __name__ != "__main__":
        raise
    print(f"train.py: {error}", file=sys.stderr)  # for a user of the command, no traceback
    sys.exit(error.exit_code)


def train(config: Config) -> Run:
    """Train and test a model, and write the run folder and its report; with folds, one of each.

    Args:
        config: The settings; None takes the default of the recipe, dataset, task or model.

    Returns:
        The trained run. With ``folds``, the whole, whose results are those over all folds; with
        ``fold`` too, that fold.

    Raises:
        UserError: If a setting does not fit, or the data or the run folder cannot be used.
        TrainingStopped: If a loss or gradient is not finite, or a checkpoint cannot be written.
    """
    initialize(config.run, deterministic=config.training.deterministic)
    return _train_run(config) if config.data.folds is None else cross_validate(config, _train_run)


def _train_run(config: Config) -> Run:
    """Train and test one run."""
    task = TASKS[config.data.task]
    recorded = read_record(config.run.run_dir)["dataset"] if config.run.resume else None
    dataset = task.load_dataset(config, recorded)
    resolved, notes = resolve_settings(config, dataset)
    inputs = task.open_inputs(dataset, resolved, Shard(jax.process_index(), jax.process_count()))
    program = task.make_program(resolved, inputs)
    run_dir = open_run(resolved, inputs.description)
    program.announce(resolved, dataset.rows, run_dir, (*notes, *dataset.notes))
    streams = inputs.training(), inputs.validation()
    variables = fit(resolved.training, resolved.run, program, run_dir, *streams)
    model = task.trained_model(resolved, inputs, program, variables)
    model = task.calibrate(model, run_dir, inputs, None)
    results = task.test(model, run_dir, inputs)
    if jax.process_index() == 0:
        print(task.format_table(results, inputs, "test"))
        print(f"report: {write_report(run_dir)}")
    return Run(run_dir, model)


def main() -> None:
    """Train as the command line asks; an error of the user is one line and an exit code."""
    run_command("train.py", _train_as_asked)


def _train_as_asked() -> None:
    config = parse_config()
    is_started = config.data.folds is None or has_record(config.run.run_dir)
    if config.run.resume and is_started:  # the given flags override the settings of the run
        config = parse_config(defaults=read_config(config.run.run_dir))
    train(config)


if __name__ == "__main__":
    main()
