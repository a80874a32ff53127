"""User-facing errors and their exit codes."""

import errno
import io
import os
import re
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

import jax

_DISK_ERRNOS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG),
}

_LONGEST_MESSAGE = 2000

_LOST_PROCESS = "Gloo|NCCL|UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|heartbeat|coordination"
"""Texts of JAX's errors when a process of several is lost."""


class UserError(Exception):
    """An error that the user can correct.

    The message states what was given, what is expected and what to do. It is one line: characters
    that do not print are escaped, and the middle of a very long text is left out.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        shown = printable(message)
        if len(shown) > _LONGEST_MESSAGE:
            shown = f"{shown[: _LONGEST_MESSAGE - 500]} ... {shown[-500:]}"
        super().__init__(shown)


class TrainingStopped(UserError):
    """Training cannot continue; the command line is not the cause."""

    exit_code = 1


class JointError(UserError):
    """An error that all processes of a run raise together, so each can wait for the others."""


class Interrupted(JointError):
    """The run was interrupted by Ctrl-C and is saved."""

    exit_code = 130  # 128 + SIGINT, as in a shell


class Preempted(Interrupted):
    """The run was preempted by SIGTERM and is saved."""

    exit_code = 143  # 128 + SIGTERM, as in a shell


def printable(text: str) -> str:
    """Return a text with control and other unprintable characters escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def run_command(name: str, command: Callable[[], None]) -> None:
    """Run a command, and turn user errors into one line on standard error and an exit code.

    Args:
        name: The name of the program, which begins the line.
        command: The program.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may have bytes that are not UTF-8
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
        if isinstance(error, OSError) and error.errno in _DISK_ERRNOS:
            path = f" {printable(str(error.filename))}" if error.filename else ""
            print(f"{name}: The disk refuses{path}: {error.strerror}.", file=sys.stderr)
        elif jax.distributed.is_initialized() and re.search(_LOST_PROCESS, str(error)):
            print(
                f"{name}: Another process of this run stopped or cannot be reached "
                f"({printable(str(error)[:200])}); see its output. The last checkpoint is kept: "
                "start all processes again with --resume.",
                file=sys.stderr,
            )
        else:
            traceback.print_exc()
        _leave(TrainingStopped.exit_code)


def _leave(exit_code: int) -> NoReturn:
    """Exit immediately; JAX's shutdown barrier would deadlock with several processes."""
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)
    sys.exit(exit_code)
