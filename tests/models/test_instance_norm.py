import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lmf_jax.models.instance_norm import normalize_instances
from lmf_jax.models.layers import InstanceNorm


def normal(*shape, seed=0, dtype=np.float32):
    return jnp.asarray(np.random.RandomState(seed).normal(size=shape), dtype)


@pytest.mark.parametrize("space", [(3, 4), (2, 3, 4)], ids=str)
def test_values_and_gradients_are_those_of_pytorch(space):
    torch = pytest.importorskip("torch", reason="compares with torch, which is not installed")
    norm = {2: torch.nn.InstanceNorm2d, 3: torch.nn.InstanceNorm3d}[len(space)](5, affine=True)
    with jax.enable_x64(True):
        inputs, outer = (normal(2, *space, 5, seed=s, dtype=np.float64) for s in (0, 1))
        scale, bias = (normal(5, seed=s, dtype=np.float64) for s in (2, 3))
        ours, vjp = jax.vjp(lambda *a: normalize_instances(*a, 1e-5), inputs, scale, bias)
        ours = jax.device_get((ours, *vjp(outer)))
    norm = norm.double()
    for parameter, values in ((norm.weight, scale), (norm.bias, bias)):
        parameter.data = torch.from_numpy(np.array(values))
    pixels = torch.from_numpy(np.array(inputs)).movedim(-1, 1).requires_grad_()
    theirs = norm(pixels)
    theirs.backward(torch.from_numpy(np.array(outer)).movedim(-1, 1))
    theirs = theirs.detach().movedim(1, -1), pixels.grad.movedim(1, -1)
    for our, their in zip(ours, (*theirs, norm.weight.grad, norm.bias.grad), strict=True):
        np.testing.assert_allclose(our, their.numpy(), rtol=1e-9, atol=1e-9)


def test_derivatives_of_second_order():
    with jax.enable_x64(True):
        arguments = [normal(*s, dtype=np.float64) for s in ((2, 3, 2, 3), (3,), (3,))]

        def outputs(*arguments):
            return jnp.square(normalize_instances(*arguments, 1e-3))

        check_grads(jax.jit(outputs), arguments, order=2, modes=["rev"], rtol=1e-6)


def test_forward_over_reverse_works():
    inputs, direction = normal(2, 4, 3), normal(2, 4, 3, seed=1)

    def loss(inputs):
        return jnp.tanh(normalize_instances(inputs, jnp.ones(3), jnp.zeros(3), 1e-3) + inputs).sum()

    forward = jax.jvp(jax.grad(loss), (inputs,), (direction,))[1]
    reverse = jax.grad(lambda x: jnp.vdot(jax.grad(loss)(x), direction))(inputs)
    np.testing.assert_allclose(forward, reverse, atol=1e-5)


@pytest.mark.parametrize("level", [0.0, 1.0, 1e6])
def test_a_constant_map_becomes_the_bias_and_has_a_finite_gradient(level):
    inputs = jnp.full((2, 4, 4, 3), level)
    outputs, vjp = jax.vjp(
        lambda x: normalize_instances(x, jnp.full(3, 2.0), jnp.arange(3.0), 1e-5), inputs
    )
    np.testing.assert_allclose(outputs, jnp.broadcast_to(jnp.arange(3.0), inputs.shape), atol=1e-3)
    gradient = vjp(normal(2, 4, 4, 3))[0]
    assert jnp.isfinite(gradient).all() and jnp.abs(gradient).max() < 1e4


def test_the_variance_survives_a_large_mean():
    inputs = normal(1, 32, 32, 1) + 1e4
    outputs = normalize_instances(inputs, jnp.ones(1), jnp.zeros(1), 1e-5)
    flat = np.asarray(inputs, np.float64).ravel()
    np.testing.assert_allclose(outputs.ravel(), (flat - flat.mean()) / flat.std(), atol=2e-3)


def test_bfloat16_keeps_parameters_and_statistics_in_float32():
    inputs = (normal(2, 8, 8, 5) + 100).astype(jnp.bfloat16)
    norm = InstanceNorm(dtype=jnp.bfloat16)
    variables = norm.init(jax.random.key(0), inputs)
    outputs = norm.apply(variables, inputs)
    assert outputs.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    exact = np.asarray(inputs, np.float64)
    mean, std = exact.mean((1, 2), keepdims=True), exact.std((1, 2), keepdims=True)
    expected = (exact - mean) / np.sqrt(std**2 + 1e-5)
    np.testing.assert_allclose(np.asarray(outputs, np.float64), expected, atol=0.02)
