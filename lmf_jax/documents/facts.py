"""Facts: texts taken from a file of a run, with the file and the key that they come from.

A document is made of sentences and tables whose fixed words hold no number; every number is the
text of a fact.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmf_jax.errors import UserError, printable

Key = tuple[str | int, ...]
"""Path of a value in a JSON file: keys of objects, and indices of lists or lines."""

EVERY_LINE = "*"
"""First part of a key that stands for all lines of a JSON Lines file."""


@dataclass(frozen=True)
class Fact:
    """A text taken from a file of a run.

    Attributes:
        text: The formatted value, or a phrase that describes it.
        file: Path of the file in the run folder, such as ``test.json``.
        key: Path of the value in the file.
        is_code: Whether the text is shown as code, such as a formula.
    """

    text: str
    file: str
    key: Key
    is_code: bool = False


@dataclass(frozen=True)
class Sentence:
    """Fixed words with a ``{}`` for each fact.

    Attributes:
        words: The words; they hold no number and do not begin with a fact.
        facts: The facts, in the order of the words.
    """

    words: str
    facts: tuple[Fact, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table of facts and fixed words.

    Attributes:
        header: Title of each column.
        rows: Cells of each row.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[Sentence, ...], ...]

    @property
    def facts(self) -> tuple[Fact, ...]:
        """The facts of all cells, row by row."""
        return tuple(fact for row in self.rows for cell in row for fact in cell.facts)


@dataclass(frozen=True)
class Missing:
    """A file that the run does not have, and the command that writes it.

    Attributes:
        subject: What the file would report, such as ``prediction sets``.
        file: Name of the file.
        command: The command that writes it.
    """

    subject: str
    file: str
    command: str
    facts: tuple[Fact, ...] = ()


Block = Sentence | Table | Missing
Topics = Mapping[str, tuple[Block, ...]]
"""The blocks of each topic, by its name; a topic without facts in the run is empty."""


def facts_of(topics: Topics) -> Iterator[tuple[str, Fact]]:
    """Yield the name of the topic and each fact of it, in the order of the topics."""
    for name, blocks in topics.items():
        for block in blocks:
            for fact in block.facts:
                yield name, fact


def sentence(words: str, *facts: Fact | None) -> tuple[Sentence, ...]:
    """Return a sentence of these facts; none if the run lacks one of them."""
    known = tuple(fact for fact in facts if fact is not None)
    return (Sentence(words, known),) if len(known) == len(facts) else ()


Cell = Fact | Sentence | str | None
"""A cell of a table: a fact, words with facts, or fixed words; None is shown as ``n/a``."""


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> tuple[Table, ...]:
    """Return a table of these rows; none if there is no row."""
    filled = tuple(tuple(map(_cell, row)) for row in rows)
    return (Table(tuple(header), filled),) if filled else ()


def _cell(cell: Cell) -> Sentence:
    if isinstance(cell, Sentence):
        return cell
    if isinstance(cell, Fact):
        return Sentence("{}", (cell,))
    return Sentence("n/a" if cell is None else cell)


@dataclass(frozen=True)
class JsonFile:
    """A JSON file of a run, from which facts are taken.

    Attributes:
        name: Path of the file in the run folder.
        values: Its contents.
    """

    name: str
    values: Any

    def get(self, *key: str | int) -> Any:
        """Return the value at a key, None if there is none."""
        value = self.values
        for part in key:
            is_key = isinstance(value, Mapping) and part in value
            is_index = isinstance(value, list) and isinstance(part, int) and part < len(value)
            if not is_key and not is_index:
                return None
            value = value[part]
        return value

    def fact(self, *key: str | int, show: Callable[[Any], str] = str) -> Fact | None:
        """Return the fact of a key; None if the file has no value there.

        Args:
            key: Path of the value.
            show: Formats the value.

        Raises:
            UserError: If the value has a type that ``show`` does not take.
        """
        value = self.get(*key)
        if value is None:
            return None
        try:
            return self.tell(show(value), *key)
        except (TypeError, ValueError, AttributeError) as error:
            place = ".".join(map(str, key))
            raise UserError(
                f"{self.name} is broken: its {place} has a value of the wrong type."
            ) from error

    def tell(self, text: str, *key: str | int) -> Fact:
        """Return a fact of a key with the given text.

        Args:
            text: The text.
            key: Path of the value that decides the text.
        """
        return Fact(printable(" ".join(text.split())), self.name, key)
