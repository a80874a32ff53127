"""The exceptions that are written for the person at the command line.

The entries print the message, one sentence, without a traceback, and exit with the code.
"""


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
