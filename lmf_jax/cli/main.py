"""Dispatch of ``python -m lmf_jax COMMAND``."""

from collections.abc import Callable

import tyro

from lmf_jax.cli.compare import Compare, run_compare
from lmf_jax.cli.evaluate import Evaluate, run_evaluate
from lmf_jax.cli.explain import Explain, run_explain
from lmf_jax.cli.parser import parse_in_one_line
from lmf_jax.cli.predict import Predict, run_predict
from lmf_jax.config import Config
from lmf_jax.distributed.initialize import start_up
from lmf_jax.errors import UserError

COMMANDS: dict[type, Callable[..., None]] = {
    Evaluate: run_evaluate,
    Predict: run_predict,
    Explain: run_explain,
    Compare: run_compare,
}


def main() -> None:
    """Parse the command line and run the command it names."""
    options = parse_in_one_line(
        lambda: tyro.extras.subcommand_cli_from_dict(
            {kind.__name__.lower(): kind for kind in COMMANDS},
            prog="python -m lmf_jax",
            description="Commands on finished runs.",
        ),
        COMMANDS,
    )
    start_up(Config())
    try:
        COMMANDS[type(options)](options)
    except ModuleNotFoundError as error:
        if error.name != "data":
            raise
        raise UserError(
            "This command reads images with the package data of the checkout; run it from the "
            "root of the checkout."
        ) from error
