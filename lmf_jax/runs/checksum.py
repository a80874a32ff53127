"""Checksums of arrays, by which a checkpoint that a disk has changed is told from a whole one.

Neither Orbax nor the formats that it writes keep a checksum of the values.
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

    Any single error of up to 32 bits in an array changes it. It covers the bits of the values and
    not their names, shapes and types.

    Args:
        tree: Of arrays, on any devices; None and empty trees hold none.
    """
    with ThreadPoolExecutor() as threads:  # zlib lets go of Python's lock
        sums = list(threads.map(_array_checksum, jax.tree.leaves(tree)))
    return zlib.crc32(np.array(sums, "<u4").tobytes())


def _array_checksum(array: Any) -> int:
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def record_checksum(record: Mapping[str, Any]) -> int:
    """Return the CRC-32 of what JSON makes of a mapping, whatever the order of its keys."""
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())
