"""Gather per-process results on every process."""

from collections.abc import Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Int64


def gather_batches(blocks: Mapping[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the values of every example in the order of the global batches.

    Args:
        blocks: This process's block ``[b, ...]`` of each batch, by name; equally many in every
            process.
    """
    stacked = {name: np.stack(arrays) for name, arrays in blocks.items()}
    if jax.process_count() > 1:
        gathered = multihost_utils.process_allgather(stacked)  # [P, batches, block, ...]
        stacked = {name: np.moveaxis(x, 0, 1) for name, x in gathered.items()}
        return {name: x.reshape(-1, *x.shape[3:]) for name, x in stacked.items()}
    return {name: x.reshape(-1, *x.shape[2:]) for name, x in stacked.items()}


def gather_rows(
    indices: Int64[np.ndarray, " m"], values: Mapping[str, np.ndarray], count: int
) -> dict[str, np.ndarray]:
    """Return the values of all rows in order, from processes with any number of rows each.

    Args:
        indices: Indices of this process's rows, in ``[0, count)``.
        values: Values of its rows ``[m, ...]``, by name.
        count: Total number of rows.
    """
    if jax.process_count() > 1:
        # All processes must gather arrays of one shape: pad to the longest.
        longest = int(multihost_utils.process_allgather(np.asarray(len(indices))).max())
        padding = longest - len(indices)
        indices = np.pad(indices, (0, padding), constant_values=-1)
        values = {
            name: np.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1)) for name, x in values.items()
        }
        gathered = multihost_utils.process_allgather({"indices": indices, **values})
        flat = {name: x.reshape(-1, *x.shape[2:]) for name, x in gathered.items()}
        indices = flat.pop("indices")
        values = {name: x[indices >= 0] for name, x in flat.items()}
        indices = indices[indices >= 0]
    ordered = {}
    for name, rows in values.items():
        ordered[name] = np.zeros((count, *rows.shape[1:]), rows.dtype)
        ordered[name][indices] = rows
    return ordered
