"""Errors of the parser become one sentence without its internals."""

import runpy
import sys

import pytest

from lmf_jax.cli.parser_messages import plain_message

WRONG = [
    ("data", "audit digits_lt --split-seed two", "--split-seed is two; expected a whole number."),
    ("data", "audit digits_lt --split-seed -1", "--split-seed is -1; expected a whole number in"),
    ("data", "audit digits_lt --labels-only yes", "--labels-only is yes; expected no value after"),
    ("data", "prepare ham10000 --raw-dir", "--raw-dir was given no value; expected a text."),
    ("data", "prepare", "NAME must be given; --help lists the flags."),
    ("data", "audi x", "There is no command audi; expected one of prepare, audit."),
    ("data", "", "Expected one of prepare, audit."),
    ("lmf_jax", "evaluate x --split tst", "--part is tst; expected one of test, validation, tra"),
    ("lmf_jax", "predict x y --output", "--output was given no value; expected a text."),
    (
        "lmf_jax",
        "predict x",
        "IMAGE|FOLDER|LIST, --output must be given; --help lists the flags.",
    ),
    ("lmf_jax", "evaluat x", "There is no command evaluat; expected one of evaluate, predict, exp"),
    ("lmf_jax", "compare a b --x", "Unrecognized options: --x; --help lists the flags."),
]


@pytest.mark.parametrize(("module", "line", "message"), WRONG)
def test_a_wrong_word_of_a_command_is_told_plainly(module, line, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [module, *line.split()])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module(module, run_name="__main__")
    assert stop.value.code == 2
    printed = capsys.readouterr().err.strip()
    assert printed.partition(": ")[2].startswith(message)
    assert "\n" not in printed


PANELS = {
    "unicode": "╭─ Parsing error ─╮\n│ Error parsing --a: no type matching │\n╰──────╯",
    "ascii": " Parsing error \n -------- \n Error parsing --a: no type matching \n  --------",
}


@pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS.keys())
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (int, "a whole number"),
        (float | None, "a number"),
        (tuple[float, float], "2 numbers"),
        (tuple[str, ...], "a text, or several"),
    ],
)
def test_a_value_is_told_with_what_its_flag_takes(panel, kind, expected):
    message = plain_message(panel, ["--b", "1", "--a", "x", "y", "--c"], {"a": kind})
    assert message == f"--a is x y; expected {expected}."


def test_what_is_not_understood_is_kept():
    panel = "╭─ Oh ─╮\n│ Something else. │\n╰──────╯"
    assert plain_message(panel, ["--a"], {}) == "Something else; --help lists the flags."
