"""What must happen once, before JAX looks at the devices."""

import ctypes
import logging
import os
import platform
from pathlib import Path

import jax

from lmf_jax.config import Config
from lmf_jax.errors import UserError

COMPILATION_CACHE = "~/.cache/lmf-jax/compilations"

HEARTBEAT_SECONDS = 30
"""After so long without a sign of life from one of several processes JAX ends the others."""

DETERMINISTIC_FLAGS = "--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0"
"""No sums in an order left to chance, and no choice of kernels by how fast they were this time."""

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # of glibc's malloc.h


def start_up(config: Config) -> None:
    """Join the other processes, if any, and let compiled programs be found again.

    Args:
        config: the settings; ``distributed`` and its three companions say whether and how this
            process meets the others. What is left open, JAX finds out from the cluster.

    Raises:
        UserError: if the others cannot be met.
    """
    # Orbax tells of every file and of waiting, and prints what it raises, with all that went on
    # beside it; one sentence of ours says the same.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(Path(COMPILATION_CACHE).expanduser()))
    keep_memory()
    if config.deterministic:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC_FLAGS}"
    if config.distributed == "auto":
        try:
            jax.distributed.initialize(
                config.coordinator_address,
                config.num_processes,
                config.process_id,
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            )
        except (ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise UserError(
                f"This process cannot join the others ({reason}); outside of a known cluster give "
                "--coordinator-address, --num-processes and --process-id."
            ) from error


def keep_memory() -> None:
    """Let the C library keep the memory that a step gives back, for the next step.

    On a CPU a step asks for hundreds of megabytes at once. By itself glibc takes such memory from
    Linux and returns it every time, and Linux clears every page anew: a quarter of a step's time
    (``python -m benchmarks.train_step --memory returned`` shows it). Other C libraries are left
    alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)  # never
    libc.mallopt(_M_ARENA_MAX, 1)  # only the first arena can hold that much
