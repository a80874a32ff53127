"""Which devices a step runs on, and how a batch is spread over them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

AXIS = "batch"
"""The name of the mapped axis; synchronised layers of a model need it."""

Variables = Mapping[str, PyTree]
Batch = Mapping[str, Any]


CPU_COMPILER_OPTIONS = {"xla_disable_hlo_passes": "cse_barrier_expander"}
"""Lets optimization barriers stand until the program is done. XLA for CPUs drops them before it
fuses, and then computes a value anew in every place that needs it, such as the sum of the gradients
of all later layers in each layer of a DenseNet."""


@dataclass(frozen=True)
class MappedStep:
    """A step mapped over devices, compiled for every shape and type of its batch that it meets."""

    mapped: Any
    """From ``jax.pmap``, which itself takes no options for the compiler."""
    compiler_options: Mapping[str, str]
    _compiled: dict[Any, Callable] = field(default_factory=dict)

    def __call__(self, state: Any, batch: Any) -> Any:
        """Run the step; the state or the variables have one shape, the batch may have any."""
        if jax.process_count() > 1:  # pmap alone joins the shares of several processes
            return self.mapped(state, batch)
        kind = tuple((x.shape, x.dtype) for x in jax.tree.leaves(batch))
        if kind not in self._compiled:
            self._compiled[kind] = self.compile(state, batch)
        return self._compiled[kind](state, batch)

    def compile(self, state: Any, batch: Any) -> Any:
        """Compile the step for arguments like these, or for ``jax.ShapeDtypeStruct``."""
        return self.mapped.lower(state, batch).compile(dict(self.compiler_options))


def spread_over_devices(batch: Batch) -> dict[str, Array]:
    """Put this process's part of a batch on its devices: ``[b, ...]`` becomes ``[D, b/D, ...]``."""
    mesh = _local_mesh()
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    return {
        name: jax.device_put(values.reshape(mesh.size, -1, *values.shape[1:]), sharding)
        for name, values in batch.items()
    }


def place_on_devices(variables: Variables) -> Variables:
    """Put the same variables on all devices of this process, once for many steps."""
    return jax.device_put(variables, on_all_devices())


def on_all_devices() -> NamedSharding:
    """Return how that lies which is the same on all devices of this process."""
    return NamedSharding(_local_mesh(), PartitionSpec())


def _local_mesh() -> Mesh:
    return Mesh(np.array(jax.local_devices()), (AXIS,))


def over_devices(
    step: Callable,
    devices: Sequence[jax.Device] | None,
    *,
    donate_state: bool,
    spread_output: bool,
) -> MappedStep:
    """Map a step over devices: the one place that knows how.

    Args:
        step: of a state, the same on all devices, and a device's part of a batch.
        devices: what to map over; by itself all devices there are.
        donate_state: whether the state is given up to the step.
        spread_output: whether the result is a part of a batch too, or the same on all devices.
    """
    mapped = jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=0 if spread_output else None,
        donate_argnums=0 if donate_state else (),
        devices=devices,
    )
    on_cpu = (jax.devices() if devices is None else devices)[0].platform == "cpu"
    return MappedStep(mapped, CPU_COMPILER_OPTIONS if on_cpu else {})
