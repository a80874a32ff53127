"""Type checks of settings, and descriptions of types for errors."""

from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from lmf_jax.config.image_spec import ImageSize

_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    NoneType: "nothing",
}


def fits(value: Any, kind: Any) -> bool:
    """Return whether a value is of a type; an int is a float, a bool is neither."""
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return any(fits(value, choice) for choice in get_args(kind))
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if not isinstance(value, tuple) or len(value) != len(kinds):
            return False
        return all(fits(part, kind) for part, kind in zip(value, kinds, strict=True))
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def shown(kind: Any) -> str:
    """Return the description of a type."""
    if kind == ImageSize:
        return "a whole number, height and width such as 512,384, or a depth before them"
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if Ellipsis in kinds:
            return f"{_KINDS[kinds[0]]}, or several"
        return f"{len(kinds)} {'whole numbers' if set(kinds) == {int} else 'numbers'}"
    return " or ".join(map(shown, get_args(kind))) or _KINDS.get(kind, str(kind))
