"""``python -m lmf_jax operate RUN --class NAME --sensitivity 0.95``: choose a threshold."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from lmf_jax.cli.arguments import RunDir
from lmf_jax.cli.supported_tasks import require_task
from lmf_jax.cli.tasks import TASKS
from lmf_jax.errors import UserError
from lmf_jax.evaluation.operating.description import describe_point
from lmf_jax.evaluation.operating.file import check_name, read_points, write_point
from lmf_jax.evaluation.operating.point import operating_point
from lmf_jax.evaluation.operating.thresholds import KINDS, Target
from lmf_jax.evaluation.report import write_report
from lmf_jax.runs.files import common_task
from lmf_jax.runs.folds import require_single_run


@dataclass(frozen=True)
class Operate:
    """Choose the decision threshold of a class or label on the validation part, and test it.

    Give one of --sensitivity, --specificity, --ppv and --cost-ratio. The threshold and its error
    rates are stored in operating_points.json, and predict --operating-point decides with it.
    """

    run: RunDir
    class_name: Annotated[str, tyro.conf.arg(name="class", metavar="NAME")]
    """The class or label to find."""
    sensitivity: float | None = None
    """Smallest fraction of the images of the class that is found."""
    specificity: float | None = None
    """Smallest fraction of the other images that is called negative."""
    ppv: float | None = None
    """Smallest fraction of the positive images that is of the class."""
    cost_ratio: float | None = None
    """Cost of a missed case over the cost of a false alarm; the threshold has the lowest cost."""
    prevalence: float | None = None
    """Fraction of images of the class where the model will be used (default: that of the test)."""
    name: str | None = None
    """Name of the operating point (default: class, kind and value of the target)."""


def run_operate(options: Operate) -> None:
    """Choose, test, describe and store an operating point, and write the report again."""
    target = _target(options)
    if options.prevalence is not None and not 0 < options.prevalence < 1:
        raise UserError(
            f"--prevalence is {options.prevalence:g}; expected a fraction between 0 and 1, such as "
            "0.02."
        )
    require_task("operate", options.run, *(name for name, t in TASKS.items() if t.class_parts))
    require_single_run(options.run)
    task = TASKS[common_task([options.run])]
    run = task.read_run(options.run)
    names = list(run.dataset["class_names"])
    if options.class_name not in names:
        raise UserError(
            f"The run in {options.run} has no class {options.class_name}; expected one of "
            f"{', '.join(names)}."
        )
    kind = target.kind.replace("_", "-")
    name = (
        options.name
        if options.name is not None
        else f"{options.class_name[:40].strip()}-{kind}-{target.value:g}"
    )
    check_name(name)
    is_new = name not in read_points(options.run, names)
    if run.validation is None:
        raise UserError(
            f"The run in {options.run} has no predictions of its validation images; run python -m "
            f"lmf_jax evaluate {options.run} first."
        )
    assert task.class_parts is not None
    validation, test = task.class_parts(run, names.index(options.class_name))
    try:
        point = operating_point(
            options.class_name, target, validation, test, prevalence=options.prevalence
        )
    except ValueError as error:
        raise UserError(f"Class {options.class_name}: {error}") from None
    path = write_point(options.run, name, point, names, run.calibrator)
    print(describe_point(point))
    print(f"\n{'stored' if is_new else 'replaced'}: {name} in {path}")
    print(f"report: {write_report(options.run)}")


def _target(options: Operate) -> Target:
    given = {kind: getattr(options, kind) for kind in KINDS if getattr(options, kind) is not None}
    if len(given) != 1:
        found = " and ".join(f"--{kind.replace('_', '-')}" for kind in given) or "none"
        raise UserError(
            f"{found} of --sensitivity, --specificity, --ppv and --cost-ratio is given; expected "
            "exactly one."
        )
    kind, value = next(iter(given.items()))
    try:
        return Target(kind, value)
    except ValueError as error:
        raise UserError(str(error)) from None
