"""Which devices a step runs on, and how a batch is spread over them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
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
    """From :func:`pmap_step` or :func:`shard_map_step`."""
    compiler_options: Mapping[str, str]
    _compiled: dict[Any, Callable] = field(default_factory=dict)

    def __call__(self, state: Any, batch: Any) -> Any:
        """Run the step; the state or the variables have one shape, the batch may have any."""
        if jax.process_count() > 1:  # a compiled step takes global arrays alone
            return self.mapped(state, batch)
        kind = tuple((x.shape, x.dtype) for x in jax.tree.leaves(batch))
        if kind not in self._compiled:
            self._compiled[kind] = self.compile(state, batch)
        return self._compiled[kind](state, batch)

    def compile(self, state: Any, batch: Any) -> Any:
        """Compile the step for arguments like these, or for ``jax.ShapeDtypeStruct``."""
        return self.mapped.lower(state, batch).compile(dict(self.compiler_options))


def shard_batch(batch: Batch) -> dict[str, Array]:
    """Put this process's part of a batch on its devices: ``[b, ...]`` becomes ``[D, b/D, ...]``."""
    mesh = _local_mesh()
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    return {
        name: jax.device_put(values.reshape(mesh.size, -1, *values.shape[1:]), sharding)
        for name, values in batch.items()
    }


def replicate(variables: Variables) -> Variables:
    """Put the same variables on all devices of this process, once for many steps."""
    return jax.device_put(variables, replicated_sharding())


def replicated_sharding() -> NamedSharding:
    """Return how that lies which is the same on all devices of this process."""
    return NamedSharding(_local_mesh(), PartitionSpec())


def _local_mesh() -> Mesh:
    return Mesh(np.array(jax.local_devices()), (AXIS,))


def map_over_devices(
    step: Callable,
    devices: Sequence[jax.Device] | None,
    *,
    donate_state: bool,
    sharded_output: bool,
) -> MappedStep:
    """Map a step over devices: the one place that knows how.

    Args:
        step: Of a state, the same on all devices, and a device's part of a batch.
        devices: What to map over (default: all devices).
        donate_state: Whether the state is given up to the step.
        sharded_output: Whether the result is a part of a batch too, or the same on all devices.
    """
    mapped = map_step(step, devices, donate_state, sharded_output)
    on_cpu = (jax.devices() if devices is None else devices)[0].platform == "cpu"
    return MappedStep(mapped, CPU_COMPILER_OPTIONS if on_cpu else {})


def pmap_step(
    step: Callable,
    devices: Sequence[jax.Device] | None,
    donate_state: bool,
    sharded_output: bool,
) -> Any:
    """Map a step by ``jax.pmap``; the arguments are those of :func:`map_over_devices`."""
    return jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=0 if sharded_output else None,
        donate_argnums=0 if donate_state else (),
        devices=devices,
    )


def shard_map_step(
    step: Callable,
    devices: Sequence[jax.Device] | None,
    donate_state: bool,
    sharded_output: bool,
) -> "ShardMappedStep":
    """Map a step by ``jax.shard_map``; the arguments are those of :func:`map_over_devices`."""
    mesh = Mesh(np.array(_all_devices() if devices is None else devices), (AXIS,))
    out_spec = PartitionSpec(AXIS) if sharded_output else PartitionSpec()

    def step_of_shard(state: Any, batch: Any) -> Any:
        # shard_map keeps the mapped axis, of length 1 on each device, which pmap removes.
        output = step(state, jax.tree.map(lambda x: jnp.squeeze(x, 0), batch))
        return jax.tree.map(lambda x: jnp.expand_dims(x, 0), output) if sharded_output else output

    mapped = jax.shard_map(
        step_of_shard,
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
        out_specs=out_spec,
        check_vma=False,  # the steps sum over devices explicitly, as under pmap
    )
    return ShardMappedStep(
        jax.jit(mapped, donate_argnums=0 if donate_state else ()), mesh, out_spec
    )


@dataclass(frozen=True)
class ShardMappedStep:
    """A step mapped by ``shard_map`` that, as ``pmap``, takes and returns host-local arrays."""

    jitted: Any
    mesh: Mesh
    out_spec: PartitionSpec

    def __call__(self, state: Any, batch: Any) -> Any:
        """Run the step on the devices of all processes."""
        specs = (PartitionSpec(), PartitionSpec(AXIS))
        arguments = multihost_utils.host_local_array_to_global_array(
            (state, batch), self.mesh, specs
        )
        output = self.jitted(*arguments)
        return multihost_utils.global_array_to_host_local_array(output, self.mesh, self.out_spec)

    def lower(self, state: Any, batch: Any) -> Any:
        """Trace the step for arguments like these, or for ``jax.ShapeDtypeStruct``."""
        return self.jitted.lower(state, batch)


def _all_devices() -> list[jax.Device]:
    """Return the devices of all processes, those of a process side by side."""
    processes = range(jax.process_count())
    return [device for process in processes for device in jax.local_devices(process)]


map_step = shard_map_step
"""The form in use; :func:`pmap_step` is the other. ``pmap`` is in maintenance mode and, in JAX
0.10 to 0.12, itself a wrapper of ``jit(shard_map)``; both give the same bits in the same time."""
