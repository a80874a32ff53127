"""Initialization of the process that trains."""

import platform
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, statistics, sys
from lmf_jax.distributed.initialize import keep_memory
if sys.argv[1] == "kept":
    keep_memory()
import jax, jax.numpy as jnp
values = jnp.ones((4096, 4096))
step = jax.jit(lambda x: jnp.dot(x[::-1], jnp.sin(x).T[:, :8]).sum())  # 64 MB and more in between
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step(values).block_until_ready()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
# The median: now and then a small block keeps two pieces of the heap apart, which then grows once.
print(int(statistics.median(faults() for _ in range(60))))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc, whose memory is kept")
def test_a_step_does_not_fault_in_its_memory_anew():
    def faults(memory: str) -> int:
        command = [sys.executable, "-c", COUNT_FAULTS, memory]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults("kept") * 20 < faults("returned")
