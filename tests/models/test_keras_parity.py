"""ResNet-50 computes what Keras' computes from the same weights, in both layouts of its files."""

import functools

import h5py
import jax
import numpy as np
import pytest

from lmf_jax.models import create_model
from lmf_jax.models.pretrained import load_pretrained
from tests.models import make_golden
from tests.models.make_golden import KERAS_MODEL, NUM_CLASSES, SIZES
from tests.models.test_torchvision_parity import stored, stored_shapes

pytestmark = pytest.mark.slow

TOLERANCE = 1e-5
"""Largest error in float32, relative to the largest logit. Keras' old epsilon makes it 1e-2."""


def layers() -> dict[str, dict[str, np.ndarray]]:
    """Return the seeded weights of each layer, in Keras' order."""
    found = {}
    weights = make_golden.seeded_state_dict(stored_shapes(KERAS_MODEL))
    for name, tensor in weights.items():
        layer, weight = name.split("/")
        found.setdefault(layer, {})[weight] = np.float32(tensor)
    return found


def write_published(path):
    """Write as the published file is: Keras' layout with names as attributes, the head "probs"."""
    with h5py.File(path, "w") as file:
        weights = {"probs" if name == "predictions" else name: w for name, w in layers().items()}
        file.attrs["layer_names"] = [name.encode() for name in weights]
        for layer, tensors in weights.items():
            names = [f"{layer}/{weight}:0" for weight in tensors]
            file.create_group(layer).attrs["weight_names"] = [name.encode() for name in names]
            for name, tensor in zip(names, tensors.values(), strict=True):
                file[layer][name] = tensor


def write_keras_3(path):
    """Write as ``model.save_weights`` of Keras 3 does."""
    with h5py.File(path, "w") as file:
        for number, (layer, tensors) in enumerate(layers().items()):
            variables = file.create_group(f"layers/layer_{number}/vars")
            variables.attrs["name"] = layer
            for place, tensor in enumerate(tensors.values()):
                variables[str(place)] = tensor


WRITERS = {"published.h5": write_published, "of_keras_3.weights.h5": write_keras_3}


@functools.cache
def evaluate():
    return jax.jit(create_model(KERAS_MODEL, num_classes=NUM_CLASSES).apply)


def assert_close(ours, theirs):
    assert np.abs(ours - theirs).max() < TOLERANCE * np.abs(theirs).max()


@pytest.mark.parametrize("file", WRITERS)
def test_the_model_reproduces_keras(file, tmp_path):
    WRITERS[file](tmp_path / file)
    variables = load_pretrained(str(tmp_path / file), KERAS_MODEL)
    for size in SIZES:
        theirs = stored(KERAS_MODEL)[f"{size[0]}x{size[1]}/float32_logits"]
        assert_close(evaluate()(variables, np.float32(make_golden.seeded_images(size))), theirs)


def test_the_stored_logits_are_those_of_the_installed_keras(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    pytest.importorskip("keras", reason="compares with Keras, which is not installed")
    with jax.numpy_rank_promotion("allow"):
        shapes, logits = make_golden.keras_outputs(SIZES[1])
    assert shapes == stored_shapes(KERAS_MODEL)
    assert_close(stored(KERAS_MODEL)[f"{SIZES[1][0]}x{SIZES[1][1]}/float32_logits"], logits)
