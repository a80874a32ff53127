"""Pairs of images in one array: halves, absent images and pooled features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmf_jax.models.image_pairs import join_maps, pool_pairs, split_pairs


@pytest.fixture
def images():
    return jax.random.uniform(jax.random.key(0), (3, 4, 6, 2))


def test_all_left_halves_come_first(images):
    halves, has_image = split_pairs(images)
    np.testing.assert_array_equal(halves[:3], images[:, :, :3])
    np.testing.assert_array_equal(halves[3:], images[:, :, 3:])
    assert has_image.all()


def test_the_mirrored_other_half_replaces_an_absent_one(images):
    images = images.at[0, :, :3].set(0).at[2, :, 3:].set(jnp.array([0.5, -1]))
    halves, has_image = split_pairs(images)
    assert has_image.tolist() == [False, True, True, True, True, False]
    np.testing.assert_array_equal(halves[0], images[0, :, :2:-1])
    np.testing.assert_array_equal(halves[5], images[2, :, 2::-1])


def test_an_absent_image_has_no_features_and_no_influence(images):
    images = images.at[0, :, 3:].set(0)
    halves, has_image = split_pairs(images)
    pooled = pool_pairs(join_maps(halves, has_image))
    np.testing.assert_allclose(pooled[:, :2], images[:, :, :3].mean((1, 2)), rtol=1e-6)
    np.testing.assert_array_equal(pooled[0, 2:], 0)
    np.testing.assert_allclose(pooled[1:, 2:], images[1:, :, 3:].mean((1, 2)), rtol=1e-6)


def test_a_pair_of_absent_images_has_zero_features(images):
    pooled = pool_pairs(join_maps(*split_pairs(jnp.zeros_like(images))))
    np.testing.assert_array_equal(pooled, np.zeros((3, 4)))


def test_an_odd_width_is_no_pair(images):
    with pytest.raises(ValueError, match="5 pixels wide"):
        split_pairs(images[:, :, :5])
