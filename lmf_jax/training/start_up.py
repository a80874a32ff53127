"""What must happen once, before JAX looks at the devices."""

import logging
import os
from pathlib import Path

import jax
from absl import flags

from lmf_jax.config import Config
from lmf_jax.errors import UserError

COMPILATION_CACHE = "~/.cache/lmf-jax/compilations"


def start_up(config: Config) -> None:
    """Join the other processes, if any, and let compiled programs be found again.

    Args:
        config: the settings; ``distributed`` and its three companions say whether and how this
            process meets the others. What is left open, JAX finds out from the cluster.

    Raises:
        UserError: if the others cannot be met.
    """
    if not flags.FLAGS.is_parsed():  # Grain reads flags that only absl programs parse
        flags.FLAGS.mark_as_parsed()
    logging.getLogger("absl").setLevel(logging.WARNING)  # Orbax tells of every file it writes
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(Path(COMPILATION_CACHE).expanduser()))
    if config.distributed == "auto":
        try:
            jax.distributed.initialize(
                config.coordinator_address, config.num_processes, config.process_id
            )
        except (ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise UserError(
                f"This process cannot join the others ({reason}); outside of a known cluster give "
                "--coordinator-address, --num-processes and --process-id."
            ) from error
