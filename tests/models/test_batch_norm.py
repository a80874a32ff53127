import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lmf_jax.models.batch_norm import normalize_batch, sum_over_batch


def normal(*shape, seed=0, dtype=np.float32):
    return jnp.asarray(np.random.RandomState(seed).normal(size=shape), dtype)


def on_two_devices(function, *shards):
    halves = (shard.reshape(2, len(shard) // 2, *shard.shape[1:]) for shard in shards)
    return jax.pmap(function, axis_name="batch")(*halves)


def test_gradients_are_those_of_finite_differences():
    with jax.enable_x64(True):
        inputs = normal(4, 3, 5, dtype=np.float64)
        scale, bias = normal(5, seed=1, dtype=np.float64), normal(5, seed=2, dtype=np.float64)

        def outputs(inputs, scale, bias):
            return normalize_batch(inputs, scale, bias, 1e-3, None)[0]

        check_grads(jax.jit(outputs), (inputs, scale, bias), order=2, modes=["rev"], rtol=1e-6)


def test_forward_over_reverse_works():
    inputs, direction = normal(4, 3, 5), normal(4, 3, 5, seed=1)
    scale, bias = jnp.ones(5), jnp.zeros(5)

    def loss(inputs):
        return jnp.tanh(normalize_batch(inputs, scale, bias, 1e-3, None)[0] + inputs).sum()

    forward = jax.jvp(jax.grad(loss), (inputs,), (direction,))[1]
    reverse = jax.grad(lambda x: jnp.vdot(jax.grad(loss)(x), direction))(inputs)
    np.testing.assert_allclose(forward, reverse, atol=1e-5)


def test_statistics_are_constants_to_a_gradient():
    scale, bias = jnp.ones(5), jnp.zeros(5)

    def statistics(inputs):
        _, mean, var = normalize_batch(inputs, scale, bias, 1e-3, None)
        return (mean + var).sum()

    assert not np.any(jax.grad(statistics)(normal(4, 3, 5)))


@pytest.mark.parametrize("side", [16, 8, 2])
@pytest.mark.parametrize("channels", [24, 96, 256])
def test_a_sum_has_the_same_bits_on_one_device_and_on_two(channels, side):
    """XLA's own sums of these shapes differ, by what else the program does."""
    values = normal(32, side, side, channels)

    def sums(values, axis_name):
        return sum_over_batch(jnp.square(values), axis_name)

    share, total = jax.jit(sums, static_argnums=1)(values, None)
    shares, totals = on_two_devices(lambda values: sums(values, "batch"), values)
    np.testing.assert_array_equal(share, total)
    for other in totals:
        np.testing.assert_array_equal(other, total)
    np.testing.assert_allclose(shares.sum(0), total, rtol=1e-6)
    np.testing.assert_allclose(total, np.square(values).sum((0, 1, 2)), rtol=1e-5)


def test_gradients_of_two_devices_have_the_bits_of_one():
    inputs, outer = normal(32, 8, 8, 24), normal(32, 8, 8, 24, seed=1)
    scale, bias = normal(24, seed=2), normal(24, seed=3)

    def gradient(inputs, outer, axis_name):
        def outputs(inputs):
            return normalize_batch(inputs, scale, bias, 1e-3, axis_name)[0]

        return jax.vjp(outputs, inputs)[1](outer)[0]

    one = jax.jit(gradient, static_argnums=2)(inputs, outer, None)
    two = on_two_devices(lambda *shards: gradient(*shards, "batch"), inputs, outer)
    np.testing.assert_array_equal(two.reshape(one.shape), one)
