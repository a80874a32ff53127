"""The exceptions that are written for the person at the command line, and how they get there."""

import errno
import io
import os
import re
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

import jax

_DISK_REFUSES = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG),
}


_LONGEST_MESSAGE = 2000

_OTHERS_GONE = "Gloo|NCCL|UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|heartbeat|coordination"
"""What JAX says when several processes cannot sum, or agree, any more."""


class UserError(Exception):
    """Something was asked for that cannot be done.

    The message says what was given, what is expected and what to do. It is one line, whatever a
    file holds: control characters and the like are written as Python writes them, and of a text
    longer than a screen the middle is left out.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        shown = printable(message)
        if len(shown) > _LONGEST_MESSAGE:
            shown = f"{shown[: _LONGEST_MESSAGE - 500]} ... {shown[-500:]}"
        super().__init__(shown)


class TrainingStopped(UserError):
    """Training cannot go on, through no fault of the command line."""

    exit_code = 1


class JointError(UserError):
    """All processes of a run stop here together, so that each may wait for the others' end."""


class Interrupted(JointError):
    """The person pressed Ctrl-C; the run is saved."""

    exit_code = 130  # as a shell says it of SIGINT


class Preempted(Interrupted):
    """The cluster takes the machine back and sent SIGTERM; the run is saved."""

    exit_code = 143  # as a shell says it of SIGTERM


def printable(text: str) -> str:
    """Return a text with what a terminal would not print, or obey, as Python writes it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def run_command(name: str, command: Callable[[], None]) -> None:
    """Run a command; what a person can mend is one line on standard error and an exit code.

    Args:
        name: Of the program, which begins the line.
        command: The program.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may hold bytes that are no UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        command()
    except JointError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        _leave(error.exit_code)
    except KeyboardInterrupt:
        print(f"{name}: Stopped; what was saved is kept.", file=sys.stderr)
        _leave(Interrupted.exit_code)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _DISK_REFUSES:
            where = f" {printable(str(error.filename))}" if error.filename else ""
            print(f"{name}: The disk refuses{where}: {error.strerror}.", file=sys.stderr)
        elif jax.distributed.is_initialized() and re.search(_OTHERS_GONE, str(error)):
            print(
                f"{name}: Another process of this run stopped or cannot be reached "
                f"({printable(str(error)[:200])}); see what it said. The last checkpoint is kept: "
                "start all processes again with --resume.",
                file=sys.stderr,
            )
        else:
            traceback.print_exc()
        _leave(TrainingStopped.exit_code)


def _leave(exit_code: int) -> NoReturn:
    """End the process; of several, at once: by itself JAX waits for the others, who wait for it."""
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)
    sys.exit(exit_code)
