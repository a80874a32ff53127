import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmf_jax.models.layers import (
    BatchNorm,
    Conv,
    Dropout,
    average_pool,
    halving_max_pool,
    max_pool,
)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.RandomState(seed).normal(size=shape), jnp.float32)


def train_batch_norm(norm, variables, inputs):
    return norm.apply(variables, inputs, True, mutable=["batch_stats"])


# Convolution


@pytest.mark.parametrize("size", [(8, 9), (9, 8), (2, 1), (5, 5)])
@pytest.mark.parametrize(("kernel_size", "stride"), [(1, 2), (3, 1), (3, 2), (3, 3), (7, 2)])
def test_same_padding_is_that_of_tensorflow(size, kernel_size, stride):
    """XLA's SAME is TensorFlow's."""
    images = normal(2, *size, 3)
    conv = Conv(4, kernel_size, stride, same_padding=True)
    kernel = normal(kernel_size, kernel_size, 3, 4, seed=1)

    def ours(images):
        return conv.apply({"params": {"kernel": kernel}}, images)

    def expected(images):
        dims = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            images, kernel, (stride, stride), "SAME", dimension_numbers=dims
        )

    outputs, pullback = jax.vjp(ours, images)
    other_outputs, other_pullback = jax.vjp(expected, images)
    np.testing.assert_allclose(outputs, other_outputs, atol=1e-4)
    np.testing.assert_allclose(pullback(outputs)[0], other_pullback(outputs)[0], atol=1e-3)


# Batch norm


def test_batch_norm_normalizes_by_biased_variance_and_stores_unbiased():
    inputs = 3 * normal(2, 3, 4, 5) + 1
    norm = BatchNorm(epsilon=1e-3, momentum=0.9)
    variables = norm.init(jax.random.key(0), inputs, False)
    outputs, updates = train_batch_norm(norm, variables, inputs)
    flat = np.asarray(inputs, np.float64).reshape(-1, 5)
    expected = (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-3)
    np.testing.assert_allclose(outputs.reshape(-1, 5), expected, atol=1e-5)
    np.testing.assert_allclose(updates["batch_stats"]["mean"], 0.1 * flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(
        updates["batch_stats"]["var"], 0.9 + 0.1 * flat.var(0, ddof=1), rtol=1e-5
    )


def test_batch_norm_evaluates_with_the_running_statistics():
    inputs = normal(2, 5)
    variables = {
        "params": {"scale": normal(5, seed=1), "bias": normal(5, seed=2)},
        "batch_stats": {"mean": normal(5, seed=3), "var": jnp.square(normal(5, seed=4))},
    }
    outputs = BatchNorm().apply(variables, inputs, False)
    mean, var = variables["batch_stats"]["mean"], variables["batch_stats"]["var"]
    expected = (inputs - mean[None]) / np.sqrt(var + 1e-5)[None]
    expected = expected * variables["params"]["scale"][None] + variables["params"]["bias"][None]
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


def test_batch_norm_variance_survives_a_large_mean():
    inputs = normal(1024, 1) + 1e4
    norm = BatchNorm(momentum=0.0)
    variables = norm.init(jax.random.key(0), inputs, False)
    _, updates = train_batch_norm(norm, variables, inputs)
    expected = np.asarray(inputs, np.float64).var(ddof=1)
    np.testing.assert_allclose(updates["batch_stats"]["var"], [expected], rtol=1e-3)


def test_batch_norm_refuses_to_train_on_one_value_per_channel():
    norm = BatchNorm()
    variables = norm.init(jax.random.key(0), normal(1, 1, 1, 5), True)
    with pytest.raises(ValueError, match="one value per channel"):
        train_batch_norm(norm, variables, normal(1, 1, 1, 5))


def test_batch_norm_in_bfloat16_keeps_parameters_and_statistics_in_float32():
    inputs = (normal(8, 5) + 100).astype(jnp.bfloat16)
    norm = BatchNorm(momentum=0.0, dtype=jnp.bfloat16)
    variables = norm.init(jax.random.key(0), inputs, False)
    outputs, updates = train_batch_norm(norm, variables, inputs)
    assert outputs.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, updates))} == {jnp.dtype("float32")}
    expected = np.asarray(inputs, np.float64).var(0, ddof=1)
    np.testing.assert_allclose(updates["batch_stats"]["var"], expected, rtol=1e-4)


def test_batch_norm_over_four_devices_equals_one():
    inputs, weights = normal(8, 2, 2, 5), normal(8, 2, 2, 5, seed=1)
    variables = BatchNorm().init(jax.random.key(0), inputs, False)

    def outputs_updates_and_gradient(norm, inputs, weights):
        def loss(inputs):
            outputs, updates = train_batch_norm(norm, variables, inputs)
            return (outputs * weights).sum(), (outputs, updates)

        gradient, (outputs, updates) = jax.grad(loss, has_aux=True)(inputs)
        return outputs, updates, gradient

    outputs, updates, gradient = outputs_updates_and_gradient(BatchNorm(), inputs, weights)
    shards = [array.reshape(4, 2, 2, 2, 5) for array in (inputs, weights)]
    synchronised = BatchNorm(axis_name="batch")
    mapped = jax.pmap(
        lambda *shard: outputs_updates_and_gradient(synchronised, *shard), axis_name="batch"
    )(*shards)
    np.testing.assert_allclose(mapped[0].reshape(outputs.shape), outputs, atol=1e-5)
    np.testing.assert_allclose(mapped[2].reshape(outputs.shape), gradient, atol=1e-5)
    for statistic in ("mean", "var"):
        for shard in mapped[1]["batch_stats"][statistic]:
            np.testing.assert_allclose(shard, updates["batch_stats"][statistic], rtol=1e-5)


# Dropout


def drop(inputs, rate=0.25, key=0, **settings):
    dropout = Dropout(rate, **settings)
    return dropout.apply({}, inputs, True, rngs={"dropout": jax.random.key(key)})


def test_dropout_drops_at_its_rate_and_keeps_the_mean():
    outputs = np.asarray(drop(jnp.ones((100, 1000))))
    np.testing.assert_allclose(np.unique(outputs), [0, 1 / 0.75], rtol=1e-6)
    assert abs((outputs == 0).mean() - 0.25) < 0.01


def test_stochastic_depth_drops_whole_examples():
    outputs = np.asarray(drop(jnp.ones((2000, 3, 4)), whole_examples=True))
    assert (outputs == outputs[:, :1, :1]).all()
    assert abs((outputs[:, 0, 0] == 0).mean() - 0.25) < 0.05


def test_dropout_is_the_identity_in_evaluation_and_at_rate_zero():
    inputs = normal(4, 6)
    np.testing.assert_array_equal(Dropout(0.5).apply({}, inputs, False), inputs)
    np.testing.assert_array_equal(Dropout(0.0).apply({}, inputs, True), inputs)


def test_dropout_follows_the_key_and_the_module():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            return Dropout(0.5)(inputs, True), Dropout(0.5)(inputs, True)

    ones = jnp.ones((8, 16))
    first, second = Twice().apply({}, ones, rngs={"dropout": jax.random.key(0)})
    assert (first != second).any()
    np.testing.assert_array_equal(drop(ones, key=1), drop(ones, key=1))
    assert (drop(ones, key=1) != drop(ones, key=2)).any()


@pytest.mark.parametrize("whole_examples", [False, True])
def test_dropout_draws_do_not_depend_on_the_devices(whole_examples):
    inputs = normal(32, 6)
    alone = drop(inputs, 0.5, whole_examples=whole_examples)
    for devices in (2, 4):
        mapped = jax.pmap(
            lambda shard: drop(shard, 0.5, whole_examples=whole_examples, axis_name="batch"),
            axis_name="batch",
        )(inputs.reshape(devices, -1, 6))
        np.testing.assert_array_equal(mapped.reshape(32, 6), alone)


# Pooling


def window_max_pool(images):
    return nn.max_pool(images, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (8, 8), (7, 6)])
def test_max_pool_and_its_gradient_equal_the_window_form_even_with_ties(size):
    images = jnp.round(normal(2, *size, 3))
    assert jnp.unique(images).size < images.size
    ours, our_vjp = jax.vjp(max_pool, images)
    theirs, their_vjp = jax.vjp(window_max_pool, images)
    np.testing.assert_array_equal(ours, theirs)
    cotangent = normal(*ours.shape, seed=1)
    np.testing.assert_allclose(our_vjp(cotangent)[0], their_vjp(cotangent)[0], atol=1e-6)


def test_max_pool_does_not_hide_nan():
    images = normal(1, 5, 5, 1).at[0, 2, 2, 0].set(jnp.nan)
    expected = [[False, False, False], [False, True, False], [False, False, False]]
    np.testing.assert_array_equal(jnp.isnan(max_pool(images))[0, :, :, 0], expected)


@pytest.mark.parametrize("size", [(4, 6), (3, 5), (2, 3, 4)], ids=str)
def test_halving_max_pool_and_its_gradient_are_those_of_pytorch_even_with_ties(size):
    torch = pytest.importorskip("torch", reason="compares with torch, which is not installed")
    maps = jnp.round(normal(2, *size, 3))
    maps = maps.at[(0,) * maps.ndim].set(jnp.nan)
    ours, vjp = jax.vjp(halving_max_pool, maps)
    cotangent = normal(*ours.shape, seed=1)
    pixels = torch.from_numpy(np.array(maps)).movedim(-1, 1).requires_grad_()
    pool = {2: torch.nn.functional.max_pool2d, 3: torch.nn.functional.max_pool3d}[len(size)]
    theirs = pool(pixels, 2, ceil_mode=True)
    theirs.backward(torch.from_numpy(np.array(cotangent)).movedim(-1, 1))
    np.testing.assert_array_equal(ours, theirs.detach().movedim(1, -1).numpy())
    np.testing.assert_array_equal(vjp(cotangent)[0], pixels.grad.movedim(1, -1).numpy())


def test_average_pool_leaves_out_the_odd_row_and_column():
    images = jnp.arange(15.0).reshape(1, 3, 5, 1)
    np.testing.assert_allclose(average_pool(images)[0, :, :, 0], [[3, 5]])


# Convolution


def test_conv_keeps_the_size_of_the_map_and_adds_the_bias():
    images = normal(2, 5, 6, 3)
    conv = Conv(4, 3, use_bias=True)
    variables = conv.init(jax.random.key(0), images)
    moved = {"params": variables["params"] | {"bias": jnp.arange(4.0)}}
    difference = conv.apply(moved, images) - conv.apply(variables, images)
    assert difference.shape == (2, 5, 6, 4)
    np.testing.assert_allclose(difference[1, 2, 3], [0, 1, 2, 3], atol=1e-5)


def test_conv_of_volumes_refuses_depthwise_kernels():
    with pytest.raises(ValueError, match="Volumes are convolved over all channels"):
        Conv(3, 3, depthwise=True).init(jax.random.key(0), normal(1, 3, 3, 3, 3))
