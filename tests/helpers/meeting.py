"""Flags that connect several processes on one machine."""

import random
import socket

WITHOUT_CACHE = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
"""Environment of each of several processes.

The first alone writes to the cache: it would find its programs there, wait for the others to
compile theirs, and give up after 30 seconds.
"""


def meeting_flags(processes: int) -> list[list[str]]:
    """Return the flags of ``train.py`` for each process; none for one alone."""
    if processes == 1:
        return [[]]
    common = ["--distributed", "auto", "--coordinator-address", f"127.0.0.1:{free_port()}"]
    common += ["--num-processes", str(processes), "--process-id"]
    return [[*common, str(number)] for number in range(processes)]


def free_port(first: int = 0, last: int = 0) -> int:
    """Return a port that nobody listens at, in a range if one is given."""
    while True:
        with socket.socket() as server:
            try:
                server.bind(("127.0.0.1", random.randint(first, last)))
            except OSError:
                continue
            port: int = server.getsockname()[1]
            return port
