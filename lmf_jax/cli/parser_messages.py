"""Rewrite tyro's error as one sentence: the flag, its value, and the expected type.

Tyro draws a panel for a terminal, with the names of Python types and their errors.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise, takewhile
from types import NoneType
from typing import Any, Union, get_args

from lmf_jax.config.value_types import shown

HELP = "; --help lists the flags."

_OF_A_FLAG = re.compile(
    r"Error parsing (--[\w-]+)|.*for argument '(--[\w-]+)'", flags=re.DOTALL | re.IGNORECASE
)
_NEEDED = re.compile(r"--[\w-]+ .*|[A-Z][A-Z|]+")
"""A flag with its metavar, or the metavar of a word without a flag."""


def plain_message(panel: str, words: Sequence[str], kinds: Mapping[str, Any]) -> str:
    """Return the message of a panel of tyro in one sentence.

    Args:
        panel: The output of tyro.
        words: The command line after the name of the program.
        kinds: The types of the flags, by name with underscores.
    """
    rows = _rows_of(panel)
    text = " ".join(" ".join(rows).split()).rstrip(".")
    if match := _OF_A_FLAG.match(text):
        return _of_flag(next(filter(None, match.groups())), words, kinds)
    if text.startswith("Missing from"):
        names = [row.split()[0] for row in rows if _NEEDED.fullmatch(row)]
        return f"{', '.join(names)} must be given{HELP}"
    commands = re.search(r"(?:Available subcommands: |Expected one of \{)([\w, -]+)", panel)
    if commands and commands[1].strip().split(", ")[0] not in words:
        expected = f"xpected one of {commands[1].strip()}."
        given = [word for word in words if not word.startswith("-")]
        return f"There is no command {given[0]}; e{expected}" if given else f"E{expected}"
    parts = [part for word in words for part in word.split("=", maxsplit=1)]
    for flag, value in pairwise(parts):
        if kinds.get(_name(flag)) is bool and text.endswith(f": {value}"):
            return f"{flag} is {value}; expected no value after it{HELP}"
    return text + HELP


def _rows_of(panel: str) -> list[str]:
    """Return the rows of the message in a panel, between its title and the next rule or hint."""
    rows: list[str] = []
    for row in panel.splitlines()[1:]:
        row = row.strip("│╭╮╰╯ ")
        is_line = re.match("─|-{5}", row)
        if rows and (is_line or row.startswith(("Perhaps", "Argument helptext"))):
            break
        if not is_line:
            rows.append(row)
    return rows


def _of_flag(flag: str, words: Sequence[str], kinds: Mapping[str, Any]) -> str:
    given = _given(flag, words)
    kind = kinds.get(_name(flag))
    expected = "another one" if kind is None else shown(_without_none(kind))
    if not given:
        return f"{flag} was given no value; expected {expected}."
    return f"{flag} is {' '.join(given)}; expected {expected}."


def _given(flag: str, words: Sequence[str]) -> list[str]:
    """Return the values after the last occurrence of a flag."""
    indices = [i for i, word in enumerate(words) if word[:2] == "--" and _name(word) == _name(flag)]
    if not indices:
        return []
    own, *others = words[indices[-1] :]
    if "=" in own:
        return [own.partition("=")[2] or "''"]
    return [word or "''" for word in takewhile(lambda word: word[:2] != "--", others)]


def _name(flag: str) -> str:
    return flag.partition("=")[0].removeprefix("--").replace("-", "_")


def _without_none(kind: Any) -> Any:
    """Return a type without None, which no flag accepts as a value."""
    choices = tuple(choice for choice in get_args(kind) if choice is not NoneType)
    is_optional = NoneType in get_args(kind)
    return Union[choices] if is_optional else kind  # noqa: UP007 (the number of choices varies)
