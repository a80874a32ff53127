"""The models compute what torchvision's and timm's compute from the same weights."""

import ast
import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from lmf_jax.distributed.devices import CPU_COMPILER_OPTIONS
from lmf_jax.models import create_model
from lmf_jax.models.pretrained import from_timm, from_torchvision
from tests.helpers.quick_compilation import AS_RELEASED
from tests.models import make_golden
from tests.models.make_golden import MODELS, NUM_CLASSES, SIZES, Outputs

pytestmark = pytest.mark.slow

TOLERANCES = {"float32_logits": 1e-4}
"""Largest error, relative to the largest entry, where it is not 1e-6."""


@functools.cache
def stored(name: str) -> dict[str, np.ndarray]:
    with np.load(make_golden.GOLDEN / f"{name}.npz") as file:
        return dict(file)


def stored_shapes(name: str) -> make_golden.Shapes:
    lines = (line.split(" ", 1) for line in stored(name)["tensors"])
    return {key: ast.literal_eval(shape) for key, shape in lines}


def without_dropout(name: str, dtype):
    model = create_model(name, num_classes=NUM_CLASSES, dtype=dtype)
    if "efficientnet" in name:
        model = model.clone(dropout_rate=0.0, backbone=model.backbone.clone(drop_rate=0.0))
    return model


@functools.cache
def seeded_variables(name: str) -> dict:
    return converted(name, make_golden.seeded_state_dict(stored_shapes(name)))


def converted(name: str, state_dict) -> dict:
    return (from_timm if name.startswith("tf_") else from_torchvision)(name, state_dict)


@functools.cache
def our_outputs(name: str, size: tuple[int, int]) -> Outputs:
    """Return the counterpart of ``make_golden.torch_outputs``, with torch's names."""
    weights = seeded_variables(name)
    images = make_golden.seeded_images(size)
    single = jax.tree.map(np.float32, weights)
    # A DenseNet takes as long to compile as the others to run.
    small_densenet = name == "densenet121" and size != (224, 224)
    options = {} if small_densenet else AS_RELEASED
    evaluate = jax.jit(without_dropout(name, jnp.float32).apply, compiler_options=options)
    outputs = {"float32_logits": np.asarray(evaluate(single, np.float32(images)))}
    with jax.enable_x64(True):
        # Compiled as the train step is, which takes a DenseNet a fraction of the time.
        double = jax.jit(
            functools.partial(double_outputs, name), compiler_options=CPU_COMPILER_OPTIONS | options
        )
        outputs |= jax.device_get(double(weights, images, make_golden.seeded_cotangent()))
    batch_stats = outputs.pop("batch_stats")
    return outputs | under_torch_names(name, batch_stats)


def double_outputs(name: str, weights, images, cotangent) -> dict:
    model = without_dropout(name, jnp.float64)
    eval_logits, eval_vjp = jax.vjp(functools.partial(model.apply, weights), images)
    train = functools.partial(model.apply, weights, train=True, mutable=["batch_stats"])
    train_logits, train_vjp, updates = jax.vjp(train, images, has_aux=True)
    return {
        "eval_logits": eval_logits,
        "eval_gradient": eval_vjp(cotangent)[0],
        "train_logits": train_logits,
        "train_gradient": train_vjp(cotangent)[0],
        "batch_stats": updates["batch_stats"],
    }


def under_torch_names(name: str, batch_stats) -> Outputs:
    values, torch_names = flatten_dict(batch_stats), torch_names_of_statistics(name)
    assert values.keys() == torch_names.keys()
    return {torch_name: values[path] for path, torch_name in torch_names.items()}


@functools.cache
def torch_names_of_statistics(name: str) -> dict[tuple[str, ...], str]:
    """Find the name of each leaf by converting indices."""
    shapes = stored_shapes(name)
    places = {key: np.full(shape, place) for place, (key, shape) in enumerate(shapes.items())}
    leaves = flatten_dict(converted(name, places)["batch_stats"])
    return {path: list(shapes)[leaf.flat[0]] for path, leaf in leaves.items()}


def assert_close(ours: Outputs, theirs: Outputs) -> None:
    assert ours.keys() == theirs.keys()
    for key, expected in theirs.items():
        scale = np.abs(expected).max()
        assert scale > 0, key
        error = np.abs(ours[key] - expected).max() / scale
        assert error < TOLERANCES.get(key, 1e-6), f"{key}: {error}"


def stored_outputs(name: str, size: tuple[int, int]) -> Outputs:
    prefix = f"{size[0]}x{size[1]}/"
    return {
        key.removeprefix(prefix): value
        for key, value in stored(name).items()
        if key.startswith(prefix)
    }


# Both comparisons of one model and size in a row, so that one worker compiles for both.
@pytest.mark.parametrize("source", ["stored", "installed"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_models_reproduce_torchvision_and_timm(name, size, source):
    if source == "stored":
        assert_close(make_golden.extract(our_outputs(name, size)), stored_outputs(name, size))
        return
    pytest.importorskip("torch", reason="compares with torch, which is not installed")
    with warnings.catch_warnings():
        # torchvision says so where its image files do not match the installed torch.
        warnings.filterwarnings("ignore", "Failed to load image Python extension")
        pytest.importorskip("torchvision", reason="compares with torchvision, not installed")
        if name.startswith("tf_"):
            pytest.importorskip("timm", reason="compares with timm, which is not installed")
    assert make_golden.torch_shapes(name) == stored_shapes(name)
    assert_close(our_outputs(name, size), make_golden.torch_outputs(name, size))
