"""Initialization before the first use of a device: processes, compilation cache, memory."""

import ctypes
import logging
import os
import platform
from pathlib import Path

import jax

from lmf_jax.config import RunConfig
from lmf_jax.errors import UserError

COMPILATION_CACHE = "~/.cache/lmf-jax/compilations"

HEARTBEAT_SECONDS = 30
"""Seconds without a heartbeat after which JAX ends the other processes."""

DETERMINISTIC_FLAGS = "--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0"
"""Fixed summation order, and no selection of kernels by measured speed."""

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # of glibc's malloc.h


def initialize(run: RunConfig | None = None, *, deterministic: bool = False) -> None:
    """Connect to the other processes, if any, and turn on the compilation cache.

    Args:
        run: The settings of distributed runs; JAX takes an address or number that is None from the
            cluster. None for a single process.
        deterministic: Compute the same bits in every run on a GPU.

    Raises:
        UserError: If the other processes cannot be reached.
    """
    # Orbax logs every file and the tracebacks of its tasks; our errors state the cause in one line.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(Path(COMPILATION_CACHE).expanduser()))
    keep_memory()
    if deterministic:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC_FLAGS}"
    if run is not None and run.distributed == "auto":
        try:
            jax.distributed.initialize(
                run.coordinator_address,
                run.num_processes,
                run.process_id,
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            )
        except (ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise UserError(
                f"This process cannot connect to the others ({reason}); outside of a known cluster "
                "give --coordinator-address, --num-processes and --process-id."
            ) from error


def keep_memory() -> None:
    """Let glibc keep the memory that a step frees for the next step.

    On a CPU a step allocates hundreds of megabytes at once. By default glibc maps and unmaps this
    memory every time, and Linux clears every page: a quarter of the time of a step
    (``python -m benchmarks.train_step --memory returned`` shows it).
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)  # never
    libc.mallopt(_M_ARENA_MAX, 1)  # only the first arena can hold that much
