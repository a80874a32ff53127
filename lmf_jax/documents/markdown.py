"""Markdown of sentences and tables; texts of facts are untrusted and escaped."""

import re
from collections.abc import Iterable, Sequence

from lmf_jax.documents.facts import EVERY_LINE, Block, Fact, Key, Missing, Sentence
from lmf_jax.errors import printable

_SPECIAL = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
"""Characters with a meaning in Markdown; an underscore inside a word has none."""
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "://": "&#58;//", "www.": "www&#46;"}
"""HTML, and the beginnings of texts that Markdown turns into links."""


def escape(text: str) -> str:
    """Return a text as Markdown that shows it unchanged, in one line."""
    text = _SPECIAL.sub(r"\\\g<0>", printable(text))
    return re.sub("|".join(map(re.escape, _HTML)), lambda match: _HTML[match[0]], text)


def code(text: str, *, in_table: bool = False) -> str:
    """Return a text as a code span.

    Args:
        text: The text.
        in_table: Whether the span is in the cell of a table, where a bar ends the cell.
    """
    text = printable(text)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    padding = " " if longest else ""
    span = f"{fence}{padding}{text}{padding}{fence}"
    return span.replace("|", "\\|") if in_table else span


def show(fact: Fact, *, in_table: bool = False) -> str:
    """Return the text of a fact as Markdown."""
    return code(fact.text, in_table=in_table) if fact.is_code else escape(fact.text)


def sources(facts: Iterable[Fact], depth: int | None = None) -> str:
    """Return the files of facts and their keys as code spans: ``test.json: per_class.MEL.f1``.

    Args:
        facts: The facts.
        depth: Maximum number of parts of a key; None for all.
    """
    keys: dict[str, dict[Key, None]] = {}
    for fact in facts:
        # The first keys of config.json are sections.
        of_file = depth + 1 if depth is not None and fact.file == "config.json" else depth
        keys.setdefault(fact.file, {})[fact.key[:of_file]] = None
    return ", ".join(code(f"{file}: {_key_texts(file, list(of))}") for file, of in keys.items())


def _key_texts(file: str, keys: Sequence[Key]) -> str:
    """Return keys as one text; what they have in common is written once."""
    if file.endswith(".jsonl"):
        lines: dict[str, list[str]] = {}
        for line, *names in keys:
            title = "every line" if line == EVERY_LINE else f"line {int(line) + 1}"
            lines.setdefault(title, []).append(_dotted(names))
        return "; ".join(f"{title}: {', '.join(names)}" for title, names in lines.items())
    depth = min(len(key) for key in keys) - 1
    while depth > 1 and len({key[:depth] for key in keys}) > 1:
        depth -= 1
    if len(keys) == 1 or depth < 2:
        return ", ".join(map(_dotted, keys))
    return f"{_dotted(keys[0][:depth])}: {', '.join(_dotted(key[depth:]) for key in keys)}"


def _dotted(key: Sequence[str | int]) -> str:
    return ".".join(map(str, key))


def render(block: Block) -> str:
    """Return the lines of a block, with the sources of its facts."""
    if isinstance(block, Missing):
        return f"- Not in the run: {block.subject}. {code(block.command)} writes `{block.file}`."
    if isinstance(block, Sentence):
        return f"- {_words(block)}" + (f" ({sources(block.facts)})" if block.facts else "")
    rows = [block.header, ["---"] * len(block.header)]
    rows += [[_words(cell, in_table=True) for cell in row] for row in block.rows]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, "", f"Source: {sources(block.facts, depth=1)}."])


def _words(block: Sentence, *, in_table: bool = False) -> str:
    return block.words.format(*(show(fact, in_table=in_table) for fact in block.facts))
