import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jaxtyping import config as jaxtyping_config

from lmf_jax.cli.command_line import parse_config
from lmf_jax.distributed.devices import CPU_COMPILER_OPTIONS
from lmf_jax.errors import UserError
from lmf_jax.models import create_model, register_model, registry
from tests.helpers.tiny_architectures import MODELS, NUM_CLASSES, create_tiny_model

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
    with pytest.raises(ValueError, match=r"'resnet51'.*densenet121, eff.*, resnet50, resnet50_k"):
        create_model("resnet51", num_classes=2)
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=r"'round'.*linear, cosine"):
        create_model("resnet50", num_classes=2, head="round")


@pytest.fixture
def own_registry(monkeypatch):
    monkeypatch.setattr(registry, "_MODELS", dict(registry._MODELS))


def test_a_registered_model_is_built_and_checked_like_any_other(own_registry):
    @register_model("one-layer", task="segmentation", summary="a layer", source="no paper")
    def one_layer(options):
        return nn.Dense(options.num_classes)

    model = create_model("one-layer", num_classes=3)
    assert model.init_with_output(jax.random.key(0), jnp.zeros((2, 5)))[0].shape == (2, 3)
    assert registry.model_names("segmentation") == ("one-layer", "unet")
    config = parse_config(["--task", "segmentation", "--model", "one-layer"])
    assert config.resolve({}).model.normalization == "imagenet"
    with pytest.raises(UserError, match="--model one-layer is for --task segmentation"):
        parse_config(["--model", "one-layer"])
    with pytest.raises(ValueError, match=r"one-layer takes no spatial_dims=3.*unet"):
        create_model("one-layer", num_classes=3, spatial_dims=3)
    with pytest.raises(ValueError, match=r"named 'unet' is registered by lmf_jax\..*\.unet\.unet;"):
        register_model("unet", task="segmentation", summary="", source="")(one_layer)


@functools.cache
def compiled_train_step(name, remat):
    step = functools.partial(train_step, create_tiny_model(name, remat=remat))
    arguments = (tiny_variables(name), images(), cotangent())
    return jax.jit(step).lower(*arguments).compile(CPU_COMPILER_OPTIONS)


@every_model
def test_training_updates_all_batch_statistics_and_reaches_all_parameters(name):
    variables = tiny_variables(name)
    step = compiled_train_step(name, remat=False)
    logits, batch_stats, gradient = jax.device_get(step(variables, images(), cotangent()))
    assert logits.shape == (BATCH, NUM_CLASSES)
    assert np.isfinite(logits).all()
    for old, new in zip(
        jax.tree.leaves(variables["batch_stats"]), jax.tree.leaves(batch_stats), strict=True
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
def test_accelerators_get_their_own_convolutions(name):
    model = create_model(name, num_classes=NUM_CLASSES, axis_name=None)
    variables = shape_of_variables(model)
    kernels = [leaf for leaf in jax.tree.leaves(variables["params"]) if leaf.ndim == 4]
    traced = jax.jit(model.apply).trace(variables, jnp.zeros((2, 64, 64, 3)))
    counts = {
        platform: traced.lower(lowering_platforms=(platform,))
        .as_text()
        .count("stablehlo.convolution(")
        for platform in ("tpu", "cuda", "cpu")
    }
    assert counts["tpu"] == counts["cuda"] == len(kernels)
    assert counts["cpu"] < len(kernels) / 2


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
    kept, computed_again = (compiled_train_step(name, remat) for remat in (False, True))
    memory = [step.memory_analysis().temp_size_in_bytes for step in (kept, computed_again)]
    assert memory[1] < memory[0]
    arguments = (tiny_variables(name), images(), cotangent())
    results = [jax.tree.leaves(step(*arguments)) for step in (kept, computed_again)]
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
