"""Sharding of batches and mapping of steps over devices."""

import math
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
"""The name of the mapped axis, for the synchronized layers of a model."""

Variables = Mapping[str, PyTree]
Batch = Mapping[str, Any]

CPU_COMPILER_OPTIONS = {"xla_disable_hlo_passes": "cse_barrier_expander"}
"""Keeps optimization barriers until after fusion. Without them, XLA for CPUs recomputes a value
wherever it is used, such as the summed gradients of all later layers in each DenseNet layer."""


@dataclass(frozen=True)
class MappedStep:
    """A step mapped over devices, compiled once for each shape and type of its batch."""

    mapped: Any
    """From :func:`pmap_step` or :func:`shard_map_step`."""
    compiler_options: Mapping[str, str]
    _compiled: dict[Any, Callable] = field(default_factory=dict)

    def __call__(self, state: Any, batch: Any) -> Any:
        """Run the step. The shapes of the state or variables are fixed, those of a batch vary."""
        if jax.process_count() > 1:  # a compiled step takes global arrays only
            return self.mapped(state, batch)
        signature = tuple((x.shape, x.dtype) for x in jax.tree.leaves(batch))
        if signature not in self._compiled:
            self._compiled[signature] = self.compile(state, batch)
        return self._compiled[signature](state, batch)

    def compile(self, state: Any, batch: Any) -> Any:
        """Compile the step for arrays like these, or for ``jax.ShapeDtypeStruct``."""
        return self.mapped.lower(state, batch).compile(dict(self.compiler_options))


def shard_batch(batch: Batch) -> dict[str, Array]:
    """Shard this process's part of a batch over its devices: ``[b, ...]`` to ``[D, b/D, ...]``."""
    mesh = _local_mesh()
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    return {
        name: jax.device_put(values.reshape(mesh.size, -1, *values.shape[1:]), sharding)
        for name, values in batch.items()
    }


def replicate(variables: Variables) -> Variables:
    """Copy variables to all devices of this process."""
    return jax.device_put(variables, replicated_sharding())


def replicated_sharding() -> NamedSharding:
    """Return the sharding that replicates an array on all devices of this process."""
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
    """Map a step over devices; no other module depends on the way it is mapped.

    Args:
        step: A function of a replicated state and the batch of one device.
        devices: The devices to map over (default: all).
        donate_state: Donate the memory of the state to the result.
        sharded_output: The result is sharded like the batch; otherwise it is replicated.
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
    """Map a step by ``jax.pmap``, see :func:`map_over_devices`."""
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
    """Map a step by ``jax.shard_map``, see :func:`map_over_devices`."""
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
    """A step mapped by ``shard_map`` that takes and returns host-local arrays, as ``pmap`` does."""

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
        """Lower the step for arrays like these, or for ``jax.ShapeDtypeStruct``."""
        return self.jitted.lower(state, batch)


def _all_devices() -> list[jax.Device]:
    """Return the devices of all processes, grouped by process."""
    processes = range(jax.process_count())
    return [device for process in processes for device in jax.local_devices(process)]


map_step = shard_map_step
"""The mapping in use; :func:`pmap_step` is the alternative. ``pmap`` is in maintenance mode and, in
JAX 0.10 to 0.12, a wrapper of ``jit(shard_map)``; both take the same time for the same bits."""


def divisible_batch_size(batch_size: int) -> int:
    """Return a batch size rounded up to a multiple of the number of devices."""
    devices = jax.device_count()
    return math.ceil(batch_size / devices) * devices
