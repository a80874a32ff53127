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
"""Fixed summation order, and no choice of kernels by a measurement of their speed."""

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # of glibc's malloc.h


def initialize(run: RunConfig | None = None, *, deterministic: bool = False) -> None:
    """Join the other processes, if any, and turn on the compilation cache.

    Args:
        run: ``distributed`` and its three companions say whether and how this process meets the
            others; JAX takes what is None from the cluster. None for a single process.
        deterministic: Compute the same bits in every run on a GPU.

    Raises:
        UserError: If the others cannot be joined.
    """
    # Orbax logs every file and prints what it raises with the tasks beside it; our errors say the
    # same in one sentence.
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
                f"This process cannot join the others ({reason}); outside of a known cluster give "
                "--coordinator-address, --num-processes and --process-id."
            ) from error


def keep_memory() -> None:
    """Let the C library keep the memory that a step frees, for the next step.

    On a CPU a step allocates hundreds of megabytes at once. By default glibc maps and unmaps such
    memory every time, and Linux clears every page again: a quarter of a step's time
    (``python -m benchmarks.train_step --memory returned`` shows it). Other C libraries are left
    alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)  # never
    libc.mallopt(_M_ARENA_MAX, 1)  # only the first arena can hold that much
