import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jaxtyping import config as jaxtyping_config

from lmf_jax.models import create_model
from lmf_jax.training.devices import CPU_COMPILER_OPTIONS
from tests.models.tiny import MODELS, NUM_CLASSES, create_tiny_model

every_model = pytest.mark.parametrize("name", MODELS)
BATCH = 8


def images(dtype=np.float32):
    return np.random.RandomState(0).normal(size=(BATCH, 32, 32, 3)).astype(dtype)


def cotangent(dtype=np.float32):
    return np.random.RandomState(1).normal(size=(BATCH, NUM_CLASSES)).astype(dtype)


@functools.cache
def tiny_variables(name):
    return jax.jit(create_tiny_model(name).init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def train_step(model, variables, images, cotangent):
    """Logits, new batch statistics and gradient of `sum(logits * cotangent)`."""

    def loss(params):
        logits, updates = model.apply(
            {"params": params, "batch_stats": variables["batch_stats"]},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(3)},
        )
        return (logits * cotangent).sum(), (logits, updates["batch_stats"])

    gradient, (logits, batch_stats) = jax.grad(loss, has_aux=True)(variables["params"])
    return logits, batch_stats, gradient


def shape_of_variables(model):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))


def dtypes(tree):
    return {str(leaf.dtype) for leaf in jax.tree.leaves(tree)}


@pytest.mark.parametrize(
    ("name", "count"),
    [("resnet50", 25_557_032), ("densenet121", 7_978_856), ("efficientnet_v2_s", 21_458_488)],
)
def test_number_of_parameters_at_1000_classes(name, count):
    variables = shape_of_variables(create_model(name, num_classes=1000))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == count
    assert variables.keys() == {"params", "batch_stats"}


def test_unknown_names_are_answered_with_the_known_ones(monkeypatch):
    with pytest.raises(ValueError, match=r"'resnet51'.*resnet50, resnet50_v1, densenet121, eff"):
        create_model("resnet51", num_classes=2)
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=r"'round'.*linear, cosine"):
        create_model("resnet50", num_classes=2, head="round")


@functools.cache
def trained_on_one_device(name):
    with jax.enable_x64(True):
        step = functools.partial(train_step, create_tiny_model(name, dtype=jnp.float64))
        batch = images(np.float64), cotangent(np.float64)
        return jax.device_get(jax.jit(step)(double_variables(name), *batch))


def double_variables(name):
    return jax.tree.map(np.float64, tiny_variables(name))


@every_model
def test_training_updates_all_batch_statistics_and_reaches_all_parameters(name):
    logits, batch_stats, gradient = trained_on_one_device(name)
    assert logits.shape == (BATCH, NUM_CLASSES)
    assert np.isfinite(logits).all()
    old_batch_stats = double_variables(name)["batch_stats"]
    for old, new in zip(
        jax.tree.leaves(old_batch_stats), jax.tree.leaves(batch_stats), strict=True
    ):
        assert (old != new).any()
    for path, leaf in flatten_dict(gradient, sep="/").items():
        assert np.isfinite(leaf).all() and (leaf != 0).any(), path


@every_model
def test_evaluation_treats_each_image_alone(name):
    apply = jax.jit(create_tiny_model(name).apply)
    together = apply(tiny_variables(name), images())
    alone = apply(tiny_variables(name), images()[2:3])
    np.testing.assert_allclose(together[2:3], alone, rtol=1e-4, atol=1e-5)


@every_model
def test_bfloat16_computes_in_half_and_keeps_the_rest_in_float32(name):
    model = create_tiny_model(name, dtype=jnp.bfloat16)
    variables = jax.eval_shape(model.init, jax.random.key(0), images())
    step = functools.partial(train_step, model)
    outputs = jax.eval_shape(step, variables, images(), cotangent())
    assert dtypes((variables, outputs)) == {"float32"}
    program = str(jax.make_jaxpr(model.apply)(variables, images()))
    assert "preferred_element_type=bfloat16" in program
    assert "preferred_element_type=float32" in program  # the head

    half, whole = (
        jax.jit(m.apply)(tiny_variables(name), images()) for m in (model, create_tiny_model(name))
    )
    assert 0 < np.abs(half - whole).max() < 0.1 * np.abs(whole).max()


@every_model
def test_float64_is_float64_throughout(name):
    with jax.enable_x64(True):
        model = create_tiny_model(name, dtype=jnp.float64)
        key, inputs = jax.random.key(0), images(np.float64)
        variables = jax.eval_shape(model.init, key, inputs)
        step = functools.partial(train_step, model)
        outputs = jax.eval_shape(step, variables, inputs, cotangent(np.float64))
        assert dtypes((variables, outputs)) == {"float64"}
        assert "f32" not in str(jax.make_jaxpr(model.apply)(variables, inputs))


@every_model
def test_four_devices_compute_what_one_does(name):
    """Batch statistics, dropout and stochastic depth are those of the whole batch."""
    with jax.enable_x64(True):
        model = create_tiny_model(name, dtype=jnp.float64, axis_name="batch")
        step = functools.partial(train_step, model)
        mapped = jax.pmap(step, axis_name="batch", in_axes=(None, 0, 0))
        shards = (
            array.reshape(4, BATCH // 4, *array.shape[1:])
            for array in (images(np.float64), cotangent(np.float64))
        )
        sharded = jax.device_get(mapped(double_variables(name), *shards))
    logits, batch_stats, gradient = trained_on_one_device(name)
    all_logits, all_batch_stats, all_gradients = sharded

    assert_close(all_logits.reshape(logits.shape), logits)
    jax.tree.map(
        lambda shards, whole: assert_close(shards, whole[None]), all_batch_stats, batch_stats
    )
    jax.tree.map(lambda shards, whole: assert_close(shards.sum(0), whole), all_gradients, gradient)


def assert_close(actual, expected):
    expected = np.broadcast_to(expected, actual.shape)
    # The mean of a channel that only sees centred maps is 0 and a rounding.
    tolerance = 1e-9 * np.abs(expected).max() + 1e-14
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


@every_model
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_accelerators_get_their_own_convolutions(name, platform):
    model = create_model(name, num_classes=NUM_CLASSES, axis_name=None)
    variables = shape_of_variables(model)
    kernels = [leaf for leaf in jax.tree.leaves(variables["params"]) if leaf.ndim == 4]
    traced = jax.jit(model.apply).trace(variables, jnp.zeros((2, 64, 64, 3)))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution(") == len(kernels)
    on_cpu = traced.lower(lowering_platforms=("cpu",)).as_text()
    assert on_cpu.count("stablehlo.convolution(") < len(kernels) / 2


@every_model
def test_kernels_start_as_in_torchvision(name):
    """He et al. 2015 (arXiv 1502.01852): variance 2 / fan, normal, not truncated."""
    for path, kernel in flatten_dict(tiny_variables(name)["params"], sep="/").items():
        if kernel.ndim == 4:
            rows, columns, channels, features = kernel.shape
            fan = rows * columns * (channels if name == "densenet121" else features)
            deviation = np.sqrt((kernel**2).mean() * fan / 2)
            assert abs(deviation - 1) < 4 / np.sqrt(2 * kernel.size), path


@pytest.mark.parametrize(
    ("name", "kernel_limit", "bias_limit"),
    [
        ("resnet50", 2048**-0.5, 2048**-0.5),
        ("densenet121", 1024**-0.5, 0),
        ("efficientnet_v2_s", 16**-0.5, 0),
    ],
)
def test_heads_start_as_in_torchvision(name, kernel_limit, bias_limit):
    num_features = {"resnet50": 2048, "densenet121": 1024, "efficientnet_v2_s": 1280}[name]
    head = create_model(name, num_classes=16).head
    params = head.init(jax.random.key(0), jnp.zeros((1, num_features)))["params"]
    for values, limit in ((params["kernel"], kernel_limit), (params["bias"], bias_limit)):
        assert 0.8 * limit <= np.abs(values).max() <= limit
        assert np.std(values) == pytest.approx(limit / np.sqrt(3), rel=0.3)


@every_model
def test_rematerialised_blocks_give_the_same_and_keep_less(name):
    memory, results = [], []
    for remat in (False, True):
        model = create_tiny_model(name, remat=remat)
        step = functools.partial(train_step, model)
        arguments = (tiny_variables(name), images(), cotangent())
        compiled = jax.jit(step).lower(*arguments).compile(CPU_COMPILER_OPTIONS)
        memory.append(compiled.memory_analysis().temp_size_in_bytes)
        results.append(compiled(*arguments))
    assert memory[1] < memory[0]
    for kept, computed_again in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(kept, computed_again, rtol=1e-5, atol=1e-5)
