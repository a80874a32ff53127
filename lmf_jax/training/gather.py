"""What several processes found of their blocks of each batch, put together for all of them."""

from collections.abc import Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils


def gather_batches(parts: Mapping[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the values of every example in the order of the global batches.

    Args:
        parts: by name, this process's block ``[b, ...]`` of each batch; as many in every process.
    """
    stacked = {name: np.stack(blocks) for name, blocks in parts.items()}
    if jax.process_count() > 1:
        gathered = multihost_utils.process_allgather(stacked)  # [P, batches, block, ...]
        stacked = {name: np.moveaxis(x, 0, 1) for name, x in gathered.items()}
        return {name: x.reshape(-1, *x.shape[3:]) for name, x in stacked.items()}
    return {name: x.reshape(-1, *x.shape[2:]) for name, x in stacked.items()}
