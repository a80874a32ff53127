"""``python -m lmf_jax evaluate RUN``: evaluate the best epoch of a run again."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from lmf_jax.cli.arguments import Ensemble, RunDir, TtaMode
from lmf_jax.cli.cross_validation import evaluate_folds
from lmf_jax.cli.external import run_external_test
from lmf_jax.cli.members import cost_line, load_ensemble
from lmf_jax.cli.subgroup_columns import subgroup_columns
from lmf_jax.cli.tasks import TASKS
from lmf_jax.cli.tasks.task import Task
from lmf_jax.errors import UserError
from lmf_jax.evaluation import write_report
from lmf_jax.runs.files import common_task, fold_dir, num_folds, read_record
from lmf_jax.runs.folds import member_dirs

NOT_A_TEST = "The best epoch was chosen on the validation images; {part} is no test."


@dataclass(frozen=True)
class Evaluate:
    """Evaluate a run, or the mean of several, on its data or on another dataset."""

    run: RunDir
    part: Literal["test", "validation", "train"] = "test"
    """The part of the data. For a single run, test also rewrites the results, the calibration and
    the report."""
    calibration: Literal["none", "temperature", "vector"] | None = None
    """The calibration of the probabilities that the report, predict and explain show, fitted on the
    validation part (default: that of the run, at first temperature); classification only."""
    data_dir: str | None = None
    """The folder of prepared datasets and image caches (default: that of the run)."""
    where: str | None = None
    """Test only images with this metadata: COLUMN=VALUE or COLUMN=VALUE,VALUE, with ; between
    conditions. Without --dataset, prints the table and writes nothing."""
    subgroups: Annotated[str, tyro.conf.arg(metavar="COLUMN,...")] = ""
    """Print the subgroups of the test by these columns of the metadata; the report has them all."""
    ensemble: Ensemble = ()
    tta: TtaMode = "none"
    dataset: str | None = None
    """Test on all images of another dataset, such as manifest:FILE.csv, whose images the run has
    not seen. The results go into the folder external/ of the run."""
    map: Annotated[str, tyro.conf.arg(metavar="OTHER=CLASS,...")] = ""
    """Classes or labels of the other dataset that have another name in the run; OTHER= leaves one
    out."""


def run_evaluate(options: Evaluate) -> None:
    """Evaluate and print the table of the metrics."""
    run_dirs = (options.run, *options.ensemble)
    task = TASKS[common_task(run_dirs)]
    _check(options)
    if options.dataset is not None:
        _evaluate_elsewhere(task, run_dirs, options)
    elif len(run_dirs) == 1 and options.tta == "none":
        is_whole = num_folds(read_record(options.run)) is not None
        (_evaluate_folds if is_whole else _evaluate_run)(task, options)
    else:
        _evaluate_ensemble(task, run_dirs, options)


def _check(options: Evaluate) -> None:
    """Refuse options that have no effect with the others."""
    if options.map and options.dataset is None:
        raise UserError("--map is for another dataset; give it with --dataset.")
    if options.calibration and not _is_plain_test(options):
        raise UserError(
            "--calibration is chosen with the test part of one run; leave out --part, --where, "
            "--dataset, --ensemble and --tta."
        )
    if options.subgroups and options.dataset is None and not _is_plain_test(options):
        raise UserError(
            "--subgroups prints those of the whole test part of one run, or of another --dataset; "
            "without --dataset, give no --part, --where, --ensemble or --tta with it."
        )


def _is_plain_test(options: Evaluate) -> bool:
    """Return whether a command evaluates all test images of one run, and so writes its files."""
    given = options.where, options.dataset
    is_one = not options.ensemble and options.tta == "none"
    return options.part == "test" and is_one and given == (None, None)


def _evaluate_run(task: Task, options: Evaluate) -> None:
    model = task.load_model(options.run)
    inputs = _inputs(task, model, options)
    columns = subgroup_columns(options.subgroups, inputs.dataset)
    if _is_plain_test(options):
        model = task.calibrate(model, Path(options.run), inputs, options.calibration)
        results = task.test(model, Path(options.run), inputs)
        print(task.format_table(results, inputs, "test"))
        print(f"report: {write_report(options.run)}")
        if columns:
            num_tested = len(inputs.dataset.rows["test"])
            print(f"\n{task.format_subgroups(Path(options.run), num_tested, columns)}")
    else:
        print(task.format_table(task.summarize(model, inputs, options.part), inputs, options.part))
    if options.part != "test":
        print(NOT_A_TEST.format(part=options.part))


def _inputs(task: Task, model: Any, options: Evaluate) -> Any:
    """Open the inputs of a run, of which a part may be restricted by its metadata."""
    inputs = task.inputs_of_run(model, options.data_dir)
    if options.where is None:
        return inputs
    return replace(inputs, dataset=inputs.dataset.select(options.part, options.where))


def _evaluate_ensemble(task: Task, run_dirs: tuple[str, ...], options: Evaluate) -> None:
    """Print the metrics of the mean of several models or views; nothing is written."""
    model = load_ensemble(task, run_dirs, options.tta)
    _check_same_data(run_dirs, model)
    inputs = _inputs(task, model, options)
    start = time.perf_counter()
    results = task.summarize(model, inputs, options.part)
    seconds = time.perf_counter() - start
    print(task.format_table(results, inputs, options.part))
    print(f"{cost_line(len(model.members), options.tta)}, {seconds:.1f} s in all")
    if options.part != "test":
        print(NOT_A_TEST.format(part=options.part))


def _check_same_data(run_dirs: tuple[str, ...], model: Any) -> None:
    """Refuse runs with other splits: test images of one may be training images of another."""
    first, *others = (member.dataset["fingerprint"] for member in model.members)
    for run_dir, fingerprint in zip(member_dirs(run_dirs)[1:], others, strict=True):
        if fingerprint != first:
            raise UserError(
                f"The runs in {run_dirs[0]} and {run_dir} have different data or splits, so one "
                "may have been trained on test images of the other; average runs with one split, "
                "or test them on another --dataset."
            )


def _evaluate_elsewhere(task: Task, run_dirs: tuple[str, ...], options: Evaluate) -> None:
    if options.part != "test":
        raise UserError("--part is for the data of the run; leave it out with --dataset.")
    model = load_ensemble(task, run_dirs, options.tta)
    run_external_test(
        task,
        model,
        run_dirs,
        options.dataset or "",
        class_map=options.map,
        where=options.where,
        subgroups=options.subgroups,
        data_dir=options.data_dir,
        facts={"tta": options.tta},
    )


def _evaluate_folds(task: Task, options: Evaluate) -> None:
    """Test every fold of a cross-validation again, and write the joint results."""
    if options.part != "test" or options.where is not None:
        flag = f"--part {options.part}" if options.part != "test" else f"--where {options.where}"
        raise UserError(
            f"{flag} selects other images in each fold of {options.run}; give one of them, such "
            f"as {fold_dir(options.run, 1)}."
        )
    if options.subgroups:
        raise UserError(
            f"--subgroups is for a single run; give a fold of {options.run}, such as "
            f"{fold_dir(options.run, 1)}."
        )

    def test_run(folder: Path) -> None:
        model = task.load_model(folder)
        inputs = _inputs(task, model, options)
        model = task.calibrate(model, folder, inputs, options.calibration)
        task.test(model, folder, inputs)
        write_report(folder)

    evaluate_folds(Path(options.run), task, test_run)
