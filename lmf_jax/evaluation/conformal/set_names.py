r"""Prediction sets as text: class names joined by ``|``.

A ``|`` or ``\`` in a class name is written with a ``\`` before it, so that the names can always be
told apart.
"""

import re
from collections.abc import Sequence


def join_names(names: Sequence[str]) -> str:
    r"""Join class names, ``["a", "b|c"]`` as ``a|b\|c``; an empty set is an empty text."""
    return "|".join(re.sub(r"([|\\])", r"\\\1", name) for name in names)
