"""Untrusted JSON is parsed, or refused by ``ValueError``."""

import pytest

from lmf_jax.json_text import parse_json


def test_json_is_parsed():
    value = {"a": [1, 2.5, None, True], "é": "\U0001f600"}
    assert parse_json('{"a": [1, 2.5, null, true], "é": "\\ud83d\\ude00"}') == value
    assert parse_json('{"a": [1, 2.5, null, true], "é": "😀"}'.encode()) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        b"\xff",
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        "9" * 5000,
        '"\\ud800"',
        '{"\\udfff": 1}',
    ],
    ids=["nothing", "half", "no text", "deep", "deep keys", "digits", "half a pair", "half a key"],
)
def test_anything_else_is_a_value_error(text):
    with pytest.raises(ValueError):
        parse_json(text)
