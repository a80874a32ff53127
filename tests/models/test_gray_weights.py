"""Weights of RGB images that start a model of gray images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmf_jax.models.gray_weights import sum_over_rgb
from lmf_jax.models.normalization import NORMALIZATIONS, normalize_images
from tests.helpers.tiny_architectures import MODELS, create_tiny_model


def difference_from_rgb(name, normalization):
    """Return the largest difference of the logits of gray images from those of equal channels."""
    model = create_tiny_model(name)
    gray = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1), np.uint8)
    rgb = NORMALIZATIONS[normalization]
    inputs = normalize_images(jnp.asarray(np.repeat(gray, 3, -1)), rgb, jnp.float32)
    variables = model.init(jax.random.key(0), inputs)
    expected = model.apply(variables, inputs)
    one = normalize_images(jnp.asarray(gray), rgb.for_channels(1), jnp.float32)
    summed = {**variables, "params": sum_over_rgb(variables["params"])}
    logits = model.apply(summed, one)
    return float(jnp.abs(logits - expected).max()), float(jnp.abs(expected).max())


@pytest.mark.parametrize("name", MODELS)
def test_every_model_gives_gray_images_the_logits_of_three_equal_channels(name):
    difference, largest = difference_from_rgb(name, "unit")
    assert difference < 1e-4 * max(largest, 1)


def test_the_means_of_the_channels_are_nearly_the_same_to_the_model():
    difference, largest = difference_from_rgb("resnet50", "imagenet")
    assert 0 < difference < 0.2 * largest


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_a_normalization_of_gray_is_the_mean_over_the_channels(name):
    rgb = NORMALIZATIONS[name]
    gray = rgb.for_channels(1)
    assert (len(gray.mean), len(gray.std)) == (1, 1)
    assert min(rgb.mean) <= gray.mean[0] <= max(rgb.mean)
    assert min(rgb.std) <= gray.std[0] <= max(rgb.std)
    assert rgb.for_channels(3) is rgb and gray.for_channels(1) is gray


def test_weights_without_a_convolution_of_rgb_are_refused():
    with pytest.raises(ValueError, match="0 convolutions take three channels; expected one"):
        sum_over_rgb({"head": {"kernel": np.zeros((3, 3))}})
