"""JSON from outside: whatever it is, it is parsed or refused."""

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """Parse a JSON text whose strings can be printed and written, as every one of ours can.

    Python's parser takes NaN and Infinity too; who reads a number says which it takes.

    Args:
        text: The text; bytes are UTF-8.

    Raises:
        ValueError: If it is no JSON, is nested too deeply for the parser, holds a whole number of
            thousands of digits, or half a surrogate pair, which no file or terminal takes.
    """
    try:
        value = json.loads(text if isinstance(text, str) else text.decode("utf-8"))
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value
