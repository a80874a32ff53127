"""Commands on finished runs: ``lmf-jax evaluate|predict|explain|compare|ablate|card``.

``python -m lmf_jax`` is the same program.
"""

import sys

from lmf_jax import __version__
from lmf_jax.errors import run_command
from lmf_jax.extras import extra_packages


def main() -> None:
    """Run the command that the command line names, or print the version."""
    if sys.argv[1:] == ["--version"]:
        print(f"lmf-jax {__version__}")
        return
    with extra_packages("train", needed_by="This command"):
        from lmf_jax.cli.main import main as run_subcommand
    run_subcommand()


def run() -> None:
    """Run the console script ``lmf-jax``."""
    run_command("lmf-jax", main)


if __name__ == "__main__":
    run_command("lmf_jax", main)
