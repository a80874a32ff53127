"""Checksums of checkpoints, to detect damage on disk.

Neither Orbax nor the formats that it writes have checksums of the values.
"""

import json
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree


def tree_checksum(tree: PyTree) -> int:
    """Return the CRC-32 of the CRC-32s of all arrays of a tree, in the order of its leaves.

    It detects any burst error of up to 32 bits in an array. Names, shapes and types do not enter.

    Args:
        tree: A tree of arrays on any devices.
    """
    with ThreadPoolExecutor() as threads:  # zlib releases the GIL
        sums = list(threads.map(_array_checksum, jax.tree.leaves(tree)))
    return zlib.crc32(np.array(sums, "<u4").tobytes())


def _array_checksum(array: Any) -> int:
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def record_checksum(record: Mapping[str, Any]) -> int:
    """Return the CRC-32 of a mapping as JSON with sorted keys."""
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())
