"""The flag ``--prevalence CLASS=0.02,...``: class frequencies where a model is used."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Num

from lmf_jax.errors import UserError
from lmf_jax.evaluation.calibration import prior_ratios, read_calibration

_ITEM = re.compile(r"(.+?)=([^,=]*)(?:,|$)")
"""A name may contain commas and equals signs, a number neither."""


def parse_prevalences(text: str) -> dict[str, float]:
    """Parse ``CLASS=0.02,...``.

    Raises:
        UserError: If it has another form, or a class twice.
    """
    problem = UserError(f"--prevalence is {text}; expected CLASS=0.02 or CLASS=0.02,CLASS=0.1.")
    items = _ITEM.findall(text)
    if not items or sum(len(name) + len(number) + 2 for name, number in items) - 1 != len(text):
        raise problem
    try:
        prevalences = {name.strip(): float(number) for name, number in items}
    except ValueError:
        raise problem from None
    if len(prevalences) < len(items):
        raise UserError(f"--prevalence is {text}; expected every class once at most.")
    return prevalences


def ratios_of_run(
    text: str, run_dir: str | Path, class_names: Sequence[str], counts: Num[np.ndarray, " classes"]
) -> Float[np.ndarray, " classes"]:
    """Return the factor of each class's probability for prevalences on the command line.

    Args:
        text: The value of ``--prevalence``.
        run_dir: The folder of a classification run.
        class_names: Its ``C`` class names.
        counts: Number of its validation images of each class ``[C]``.

    Raises:
        UserError: If the run is not calibrated, or a prevalence does not fit.
    """
    prevalences = parse_prevalences(text)
    if read_calibration(run_dir, len(class_names)) is None:
        raise UserError(
            f"The run in {run_dir} has no calibration.json, which --prevalence needs; run python "
            f"-m lmf_jax evaluate {run_dir} first."
        )
    try:
        return prior_ratios(prevalences, class_names, counts)
    except ValueError as error:
        raise UserError(f"--prevalence {text}: {error}") from None
