import re

import pytest

from lmf_jax.evaluation.conformal.set_names import join_names


def split(text):
    """Split as a reader who knows only that a backslash marks the next character as text."""
    names, name, rest = [], "", iter(text)
    for character in rest:
        if character == "|":
            names.append(name)
            name = ""
        else:
            name += next(rest) if character == "\\" else character
    return [*names, name]


@pytest.mark.parametrize(
    "names",
    [["NV"], ["MEL", "NV"], ["a|b", "c"], ["a\\", "b"], ["a", "\\|"], ["|", "||"], ["x, y", '"']],
)
def test_names_can_be_told_apart_whatever_they_are(names):
    assert split(join_names(names)) == names


def test_usual_names_are_joined_by_bars():
    assert join_names(["MEL", "NV"]) == "MEL|NV"
    assert join_names([]) == ""
    assert re.split(r"(?<!\\)\|", join_names(["a|b", "c"])) == ["a\\|b", "c"]
