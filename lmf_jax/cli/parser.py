"""Parse a command line with tyro and report a mistake in one sentence."""

import contextlib
import io
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar, get_type_hints

from lmf_jax.cli.parser_messages import plain_message
from lmf_jax.errors import UserError

T = TypeVar("T")


def parse_in_one_line(
    parse: Callable[[], T], sections: Iterable[type] = (), words: Sequence[str] | None = None
) -> T:
    """Parse a command line with tyro; what is wrong with it becomes one line.

    Args:
        parse: Calls tyro.
        sections: The dataclasses whose fields are the flags.
        words: The command line after the program's name; that of this process if not given.

    Raises:
        UserError: If tyro refuses the command line.
        SystemExit: With code 0, after tyro printed its help.
    """
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            return parse()
    except SystemExit as stop:
        if not stop.code:
            raise
        words = sys.argv[1:] if words is None else words
        kinds = {name: k for section in sections for name, k in get_type_hints(section).items()}
        raise UserError(plain_message(shown.getvalue(), words, kinds)) from None
