"""Dispatch of ``lmf-jax COMMAND``."""

import sys
from collections.abc import Callable

import tyro

from lmf_jax.cli.ablate import Ablate, run_ablate
from lmf_jax.cli.card import Card, run_card
from lmf_jax.cli.compare import Compare, run_compare
from lmf_jax.cli.evaluate import Evaluate, run_evaluate
from lmf_jax.cli.explain import Explain, run_explain
from lmf_jax.cli.operate import Operate, run_operate
from lmf_jax.cli.parser import parse_in_one_line, replace_old_flags
from lmf_jax.cli.predict import Predict, run_predict
from lmf_jax.cli.sets import Sets, run_sets
from lmf_jax.distributed.initialize import initialize
from lmf_jax.errors import UserError

COMMANDS: dict[type, Callable[..., None]] = {
    Evaluate: run_evaluate,
    Predict: run_predict,
    Explain: run_explain,
    Compare: run_compare,
    Card: run_card,
    Sets: run_sets,
    Operate: run_operate,
    Ablate: run_ablate,
}

OLD_FLAGS = {"--split": "--part"}
"""Flags of earlier versions that are still accepted."""


def main() -> None:
    """Parse the command line and run its command."""
    words = replace_old_flags(sys.argv[1:], OLD_FLAGS)
    options = parse_in_one_line(
        lambda: tyro.extras.subcommand_cli_from_dict(
            {kind.__name__.lower(): kind for kind in COMMANDS},
            prog="lmf-jax",
            args=words,
            description="Commands on finished runs; --version prints the version.",
        ),
        COMMANDS,
        words,
    )
    initialize()
    try:
        COMMANDS[type(options)](options)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "data":
            raise
        command = type(options).__name__.lower()
        raise UserError(
            f"{command} reads images with the package data of the checkout, which a wheel "
            "does not have; run pip install -e '.[train]' in the checkout."
        ) from error
