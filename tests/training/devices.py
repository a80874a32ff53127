"""The first of the forced devices, as if there were no others."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from unittest import mock

import jax
import numpy as np


@contextmanager
def only(count: int) -> Iterator[None]:
    """Let JAX have ``count`` devices within the block."""
    chosen = jax.devices()[:count]
    with (
        mock.patch.object(jax, "pmap", partial(jax.pmap, devices=chosen)),
        mock.patch.object(jax, "local_devices", lambda: chosen),
        mock.patch.object(jax, "device_count", lambda: count),
    ):
        yield


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
    """Compare leaf by leaf to a share of the largest entry of each."""
    leaves = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    for a, b in ((np.asarray(a), np.asarray(b)) for a, b in leaves):
        scale = max(np.abs(b).max(), 1e-30) if b.size else 0
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)
