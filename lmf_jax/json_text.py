"""A JSON parser for untrusted text."""

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """Parse JSON whose strings can be printed and written as UTF-8.

    NaN and Infinity are accepted, as by Python's parser; readers of numbers check them.

    Args:
        text: The text; bytes are UTF-8.

    Raises:
        ValueError: If it is not JSON, is nested too deeply for the parser, or has an integer of
            thousands of digits or an unpaired surrogate.
    """
    try:
        value = json.loads(text if isinstance(text, str) else text.decode("utf-8"))
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value
