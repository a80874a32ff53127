"""The one exception that is written for the person at the command line."""


class UserError(Exception):
    """Something the person asked for cannot be done.

    The message is one sentence: what was given, what is expected, what to do. The command-line
    entries print it without a traceback and exit with code 2.
    """
