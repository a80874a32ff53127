"""Drafts of reporting checklists: each item has an answer from the run or a hint for the author."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lmf_jax.documents.facts import Block, Missing, Topics
from lmf_jax.documents.markdown import render

AUTHOR = "For the author:"
"""Beginning of a line that the author has to replace."""
OVERVIEW = (
    "Items without an answer in the run",
    "Items that the run answers in part",
    "Items that the run answers",
)


@dataclass(frozen=True)
class Item:
    """An item of a checklist.

    Attributes:
        number: Its number in the checklist, such as ``12a``.
        title: What it asks for, in a few words that are not those of the checklist.
        topics: Names of the topics that answer it.
        author: What the author has to add; empty if the topics answer it in full.
        applies: The kind of study it applies to, if the checklist distinguishes them.
    """

    number: str
    title: str
    topics: tuple[str, ...] = ()
    author: str = ""
    applies: str = ""


@dataclass(frozen=True)
class Checklist:
    """A checklist.

    Attributes:
        title: Title of the draft.
        reference: Citation of the checklist.
        note: What the reader should know about its items.
        sections: Titles of the sections and their items.
    """

    title: str
    reference: str
    note: str
    sections: Sequence[tuple[str, Sequence[Item]]]

    @property
    def items(self) -> Iterator[Item]:
        """All items in order."""
        return (item for _, items in self.sections for item in items)


def render_checklist(checklist: Checklist, topics: Topics) -> str:
    """Return the draft of a checklist as Markdown.

    Args:
        checklist: The checklist.
        topics: The facts of the run.
    """
    lines = [
        f"# {checklist.title}",
        "",
        f"Draft made from the files of a run by `python -m lmf_jax card`. {checklist.reference}",
        "",
        "The titles paraphrase the items; see the checklist for their text. Paths in code are the "
        f"file and the key of a statement. Lines that begin with *{AUTHOR}* are to be written. "
        f"{checklist.note}",
        "",
        *_overview(checklist, topics),
    ]
    for title, items in checklist.sections:
        lines += ["", f"## {title}"]
        for item in items:
            applies = f" ({item.applies})" if item.applies else ""
            lines += ["", f"### {item.number}. {item.title}{applies}", ""]
            lines += answer([block for name in item.topics for block in topics[name]], item.author)
    return "\n".join(lines) + "\n"


def _overview(checklist: Checklist, topics: Topics) -> list[str]:
    """Return a line for the items that are open, begun and answered."""
    found: dict[str, list[str]] = {title: [] for title in OVERVIEW}
    opened, begun, answered = found.values()
    for item in checklist.items:
        blocks = [block for name in item.topics for block in topics[name]]
        if all(isinstance(block, Missing) for block in blocks):
            opened.append(item.number)
        else:
            (begun if item.author else answered).append(item.number)
    return [f"- {title}: {', '.join(numbers) or 'none'}." for title, numbers in found.items()]


def answer(blocks: Sequence[Block], author: str) -> list[str]:
    """Return the lines of some blocks and of the hint for the author.

    Args:
        blocks: The blocks; equal ones are written once.
        author: The hint; empty if there is none.

    Raises:
        ValueError: If there is neither a block nor a hint.
    """
    if not blocks and not author:
        raise ValueError("There is no fact and no hint; expected at least one of them.")
    lines: list[str] = []
    for block in dict.fromkeys(blocks):
        text = render(block)
        is_list = text.startswith("- ")
        if lines and (not is_list or not lines[-1].startswith("- ")):
            lines.append("")
        lines.append(text)
    if author:
        lines += ["", f"*{AUTHOR}* {author}"] if lines else [f"*{AUTHOR}* {author}"]
    return lines
