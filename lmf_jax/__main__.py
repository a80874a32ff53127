"""Commands on finished runs: ``python -m lmf_jax evaluate|predict|explain|compare``."""

from lmf_jax.cli.main import main
from lmf_jax.errors import run_command

if __name__ == "__main__":
    run_command("lmf_jax", main)
