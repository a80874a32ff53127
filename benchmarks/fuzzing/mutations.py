"""Strategies of malformed files close to valid ones: binary, JSON and CSV."""

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from benchmarks.fuzzing.harness import Files

PLACES = st.integers(0, 2**20)
"""Offsets in a file, taken modulo its length."""

_NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32767, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63)


def _edits() -> SearchStrategy[Callable[[bytes], bytes]]:
    """Return a strategy of functions that edit bytes at one offset."""

    def edit(kind: str, place: int, length: int, number: int, content: bytes) -> bytes:
        place %= len(content) + 1
        end = min(len(content), place + length)
        head, middle, tail = content[:place], content[place:end], content[end:]
        size = (1, 2, 4, 8)[length % 4]
        order = "<>"[length // 4 % 2]
        written = struct.pack(f"{order}Q", number)
        written = written[:size] if order == "<" else written[-size:]
        return {
            "flip": head + bytes([content[place] ^ (1 << number % 8)]) + content[place + 1 :]
            if place < len(content)
            else content,
            "number": head + written + content[place + size :],
            "delete": head + tail,
            "repeat": head + middle * (1 + number % 5) + tail,
            "insert": head + written * (1 + length % 9) + content[place:],
            "truncate": head,
            "behead": content[place:],
        }[kind]

    kinds = ("flip", "number", "delete", "repeat", "insert", "truncate", "behead")
    numbers = st.one_of(st.sampled_from(_NUMBERS), st.integers(0, 2**64 - 1))
    drawn = st.tuples(st.sampled_from(kinds), PLACES, st.integers(0, 64), numbers)
    return drawn.map(lambda d: lambda content: edit(*d, content))


@st.composite
def changed_bytes(draw: DrawFn, contents: Sequence[bytes], most_edits: int = 4) -> bytes:
    """Draw one of these contents with edits, spliced with another, or replaced by any bytes."""
    way = draw(st.sampled_from(("edit",) * 7 + ("splice", "any", "begin")))
    content = draw(st.sampled_from(contents))
    if way == "any":
        return draw(st.binary(max_size=200))
    if way == "begin":
        return content[: draw(st.integers(0, 24))] + draw(st.binary(max_size=200))
    if way == "splice":
        other = draw(st.sampled_from(contents))
        return content[: draw(PLACES) % (len(content) + 1)] + other[draw(PLACES) % len(other) :]
    for edit in draw(st.lists(_edits(), min_size=1, max_size=most_edits)):
        content = edit(content)
    return content


ODD_JSON = (
    *("null", "true", "false", "0", "-1", "1", "7", "0.5", "-0.5", "1e999", "-1e999", "NaN"),
    *("1" + "0" * 400, "9" * 5000, '""', '"x"', '"1"', r'"\ud800"', r'"\u0000"', r'"\u001b[2J"'),
    *('"<script>alert(1)</script>"', '"' + "long " * 500 + '"', '"../../x"', "[]", "{}", "[1]"),
    *('["a", "a"]', "[[]]", '{"a": 1}', "[null]", "[" * 500 + "]" * 500, "[" * 10**5 + "]" * 10**5),
    '{"a":' * 3000 + "1" + "}" * 3000,
)
"""Unexpected values in JSON, some of them malformed."""


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path to every node of a JSON value."""
    inner: Sequence[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))[:4]
    return [path, *(p for key, item in inner for p in _places(item, (*path, key)))]


@st.composite
def changed_json(draw: DrawFn, value: Any) -> bytes:
    """Draw the text of a JSON value with replaced, deleted, duplicated or renamed nodes."""
    value = json.loads(json.dumps(value))
    odd = {}
    for number in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(_places(value)))
        way = draw(st.sampled_from(("odd", "odd", "odd", "delete", "rename", "add")))
        mark = f"@@{number}@@"
        odd[json.dumps(mark)] = draw(st.sampled_from(ODD_JSON))
        if not path:
            if way == "odd" and draw(st.integers(0, 9)) == 0:
                value = mark
            continue
        parent = value
        for key in path[:-1]:
            parent = parent[key]
        if way == "odd":
            parent[path[-1]] = mark
        elif isinstance(parent, list):
            parent[path[-1] : path[-1] + (way != "add")] = [] if way == "delete" else [mark]
        elif way == "add":
            parent["unknown"] = mark
        else:
            taken = parent.pop(path[-1])
            if way == "rename":
                parent[f"{path[-1]}s"] = taken
    text = json.dumps(value)
    for mark, written in odd.items():
        text = text.replace(mark, written)
    return text.encode()


ODD_CELLS = (
    *("", " ", "0", "1", "1.0", "-1", "nan", "\x00", "a\x00", '"', '"a,b"', '"a\nb"', "a\rb", "'"),
    *("../x", "/etc/passwd", "a/../b", "a//b", ".", "..", "a\\b", "\x1b[2J", "\ufeff", "\u2028"),
    *("\u202ea", "é", "e\u0301", "=1+1", "<script>", "x" * 300, "x" * 5000, "x" * 140_000),
    *(",", ",,,,", "['N']", "['N', 'D']", "train", "val", "Test"),
)
"""Unexpected cells of a CSV file."""


@st.composite
def changed_csv(draw: DrawFn, text: str) -> bytes:
    """Draw a CSV file with replaced cells and deleted, duplicated or cut lines, in any encoding."""
    lines = [line.split(",") for line in text.splitlines()]
    for _ in range(draw(st.integers(0, 3))):
        line = draw(st.integers(0, len(lines) - 1))
        cell = draw(st.integers(0, len(lines[line]) - 1)) if lines[line] else 0
        way = draw(
            st.sampled_from(("odd", "odd", "odd", "twice", "delete", "cut", "header", "add"))
        )
        if way == "odd" and lines[line]:
            lines[line][cell] = draw(st.sampled_from(ODD_CELLS))
        elif way == "twice":
            lines.insert(line, list(lines[line]))
        elif way == "delete" and len(lines) > 1:
            del lines[line]
        elif way == "cut":
            lines[line] = lines[line][:cell]
        elif way == "header":
            lines.insert(line, list(lines[0]))
        elif way == "add":
            lines[line].append(draw(st.sampled_from(ODD_CELLS)))
    encodings = ("utf-8",) * 7 + ("utf-8-sig", "utf-16", "latin-1")
    ending = draw(st.sampled_from(("\n", "\n", "\r\n", "\r", "\n\n")))
    content = ending.join(map(",".join, lines)).encode(draw(st.sampled_from(encodings)), "replace")
    return content if draw(st.integers(0, 3)) else draw(changed_bytes([content], 2))


@st.composite
def changed_files(
    draw: DrawFn, good: Files, strategies: Mapping[str, SearchStrategy[bytes]]
) -> Files:
    """Draw valid files, one or two of them changed by their own strategy or missing."""
    files = dict(good)
    for name in draw(st.lists(st.sampled_from(list(strategies)), min_size=1, max_size=2)):
        if name in files and draw(st.integers(0, 39)) == 0:
            del files[name]
        else:
            files[name] = draw(strategies[name])
    return files
