"""What several processes found of their blocks of each batch, put together for all of them."""

from collections.abc import Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Int64


def gather_batches(parts: Mapping[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the values of every example in the order of the global batches.

    Args:
        parts: By name, this process's block ``[b, ...]`` of each batch; as many in every process.
    """
    stacked = {name: np.stack(blocks) for name, blocks in parts.items()}
    if jax.process_count() > 1:
        gathered = multihost_utils.process_allgather(stacked)  # [P, batches, block, ...]
        stacked = {name: np.moveaxis(x, 0, 1) for name, x in gathered.items()}
        return {name: x.reshape(-1, *x.shape[3:]) for name, x in stacked.items()}
    return {name: x.reshape(-1, *x.shape[2:]) for name, x in stacked.items()}


def gather_rows(
    places: Int64[np.ndarray, " m"], values: Mapping[str, np.ndarray], count: int
) -> dict[str, np.ndarray]:
    """Return the values of all rows in order, of which every process has some.

    Args:
        places: Number of each of this process's rows, in ``[0, count)``; as many as it has.
        values: By name, those of its rows ``[m, ...]``.
        count: Number of rows in all.
    """
    if jax.process_count() > 1:
        most = int(multihost_utils.process_allgather(np.asarray(len(places))).max())
        room = most - len(places)
        places = np.pad(places, (0, room), constant_values=-1)
        values = {
            name: np.pad(x, [(0, room)] + [(0, 0)] * (x.ndim - 1)) for name, x in values.items()
        }
        gathered = multihost_utils.process_allgather({"places": places, **values})
        flat = {name: x.reshape(-1, *x.shape[2:]) for name, x in gathered.items()}
        places = flat.pop("places")
        values = {name: x[places >= 0] for name, x in flat.items()}
        places = places[places >= 0]
    ordered = {}
    for name, found in values.items():
        ordered[name] = np.zeros((count, *found.shape[1:]), found.dtype)
        ordered[name][places] = found
    return ordered
