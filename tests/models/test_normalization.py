import json
from typing import get_args

import jax.numpy as jnp
import numpy as np
import pytest

from lmf_jax.config import NormalizationName
from lmf_jax.models.normalization import (
    NORMALIZATIONS,
    IntensityStatistics,
    Normalization,
    VolumeNormalization,
    model_inputs,
    normalize_images,
    record_normalization,
    recorded_normalization,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)


def normalized(name):
    return np.asarray(normalize_images(jnp.asarray(IMAGES), NORMALIZATIONS[name], jnp.float32))


def test_imagenet_is_what_torchvision_does():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    np.testing.assert_allclose(normalized("imagenet"), (IMAGES / 255 - mean) / std, atol=1e-5)


def test_unit_is_the_range_0_to_1():
    np.testing.assert_allclose(normalized("unit"), IMAGES / 255, atol=1e-6)


def test_inception_is_the_range_minus_1_to_1():
    np.testing.assert_allclose(normalized("inception"), IMAGES / 127.5 - 1, atol=1e-6)


def test_caffe_is_blue_green_red_less_their_means():
    expected = IMAGES[..., ::-1] - np.array([103.939, 116.779, 123.68])
    np.testing.assert_allclose(normalized("caffe"), expected, atol=1e-4)


def test_the_result_has_the_asked_type():
    images = jnp.asarray(IMAGES)
    assert normalize_images(images, NORMALIZATIONS["unit"], jnp.bfloat16).dtype == jnp.bfloat16


def test_every_flag_has_its_normalization():
    assert set(get_args(NormalizationName)) == set(NORMALIZATIONS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": (0.0, 0.0), "std": (1.0, 1.0, 1.0)},
        {"mean": (0.0, 0.0, 0.0), "std": (1.0, 0.0, 1.0)},
        {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "channel_order": "gbr"},
    ],
    ids=["mean", "std", "order"],
)
def test_what_no_image_can_be_normalized_by_is_refused(wrong):
    with pytest.raises((ValueError, TypeError)):
        Normalization(**wrong)


CT = {"low": -100.0, "high": 200.0, "mean": 40.0, "std": 20.0}


def test_modalities_of_a_volume_are_clipped_and_standardized_or_left():
    volumes = np.random.default_rng(1).normal(0, 200, (1, 2, 3, 4, 2)).astype(np.float32)
    normalization = VolumeNormalization.of([CT, None])
    found = np.asarray(model_inputs(jnp.asarray(volumes), normalization, jnp.float32))
    expected = (np.clip(volumes[..., 0], -100, 200) - 40) / 20
    np.testing.assert_allclose(found[..., 0], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[..., 1], volumes[..., 1])
    assert model_inputs(jnp.asarray(volumes), normalization, jnp.bfloat16).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    "normalization",
    [None, NORMALIZATIONS["caffe"], VolumeNormalization.of([None, CT])],
    ids=["none", "images", "volumes"],
)
def test_a_recorded_normalization_is_the_same(normalization):
    record = json.loads(json.dumps(record_normalization(normalization)))
    assert recorded_normalization(record) == normalization


@pytest.mark.parametrize("wrong", [{"std": 0.0}, {"low": 300.0}, {"mean": float("nan")}])
def test_statistics_without_meaning_are_refused(wrong):
    with pytest.raises(ValueError, match="expected finite numbers"):
        IntensityStatistics(**CT | wrong)
