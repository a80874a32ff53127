"""Run code as if only the first forced devices existed."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from unittest import mock

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


@contextmanager
def only(count: int) -> Iterator[None]:
    """Let JAX have ``count`` devices within the block."""
    chosen = jax.devices()[:count]
    with (
        mock.patch.object(jax, "pmap", partial(_pmap, jax.pmap, chosen)),
        mock.patch.object(jax, "local_devices", lambda *_: chosen),
        mock.patch.object(jax, "device_count", lambda: count),
    ):
        yield


def _pmap(original, chosen, step, *, devices, **options):
    assert devices is None
    return original(step, devices=chosen, **options)


def place(state):
    """Put a state on all devices, as the train step returns it."""
    mesh = Mesh(np.array(jax.local_devices()), ("batch",))
    return jax.device_put(state, NamedSharding(mesh, PartitionSpec()))


def on_one(tree):
    """Return the tree on one device, after a look that all devices hold the same.

    ``pmap`` does not check it: a forgotten sum over devices would give each its own value.
    """
    for leaf in jax.tree.leaves(tree):
        first, *others = (np.asarray(shard.data) for shard in leaf.addressable_shards)
        for other in others:
            np.testing.assert_array_equal(other, first)
    return jax.device_put(tree, jax.devices()[0])


def assert_close(actual, expected, tolerance):
    """Compare two trees to a share of their largest entry."""
    actual, expected = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
        for tree in (actual, expected)
    )
    largest = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * largest)
