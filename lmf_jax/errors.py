"""The exceptions that are written for the person at the command line, and how they get there."""

import errno
import sys
from collections.abc import Callable

_DISK_REFUSES = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class UserError(Exception):
    """Something was asked for that cannot be done.

    The message says what was given, what is expected and what to do.
    """

    exit_code = 2


class TrainingStopped(UserError):
    """Training cannot go on, through no fault of the command line."""

    exit_code = 1


class Interrupted(UserError):
    """The person pressed Ctrl-C; the run is saved."""

    exit_code = 130


def run_command(name: str, command: Callable[[], None]) -> None:
    """Run a command; what a person can mend is one line on standard error and an exit code.

    Args:
        name: of the program, which begins the line.
        command: the program.
    """
    try:
        command()
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in _DISK_REFUSES:
            raise
        where = f" {error.filename}" if error.filename else ""
        print(f"{name}: The disk refuses{where}: {error.strerror}.", file=sys.stderr)
        sys.exit(TrainingStopped.exit_code)
    except KeyboardInterrupt:
        print(f"{name}: Stopped; what was saved is kept.", file=sys.stderr)
        sys.exit(Interrupted.exit_code)
