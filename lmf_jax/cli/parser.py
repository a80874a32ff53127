"""Parse a command line with tyro and report an error in one sentence."""

import contextlib
import io
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar, get_type_hints

from lmf_jax.cli.parser_messages import plain_message
from lmf_jax.errors import UserError

T = TypeVar("T")


def parse_in_one_line(
    parse: Callable[[], T], sections: Iterable[type] = (), words: Sequence[str] | None = None
) -> T:
    """Parse a command line with tyro and turn its errors into one line.

    Args:
        parse: The call of tyro.
        sections: The dataclasses whose fields are the flags.
        words: The command line after the name of the program (default: that of this process).

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


def replace_old_flags(words: Sequence[str], old_flags: Mapping[str, str]) -> list[str]:
    """Return a command line with the flags of earlier versions replaced by their successors."""
    parts = [word.partition("=") for word in words]
    return [
        f"{old_flags.get(flag.replace('_', '-'), flag)}{equals}{value}"
        for flag, equals, value in parts
    ]
