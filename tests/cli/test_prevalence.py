"""The words of ``--prevalence``."""

import pytest

from lmf_jax.cli.prevalence import parse_prevalences
from lmf_jax.errors import UserError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MEL=0.02", {"MEL": 0.02}),
        ("MEL=0.02,NV=0.9", {"MEL": 0.02, "NV": 0.9}),
        ("MEL=2e-2, NV=.9", {"MEL": 0.02, "NV": 0.9}),
        ("a, b=0.1,c=d=0.2", {"a, b": 0.1, "c=d": 0.2}),
    ],
)
def test_classes_and_numbers_are_read(text, expected):
    assert parse_prevalences(text) == expected


@pytest.mark.parametrize("text", ["", "MEL", "MEL=", "=0.1", "MEL=x", "MEL=0.1,", "0.1,MEL=0.2,NV"])
def test_other_words_are_refused(text):
    with pytest.raises(UserError, match=r"--prevalence is .*; expected CLASS=0\.02"):
        parse_prevalences(text)


def test_a_class_is_named_once():
    with pytest.raises(UserError, match="expected every class once at most"):
        parse_prevalences("a=0.1,a=0.2")
