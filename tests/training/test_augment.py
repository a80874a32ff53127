import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmf_jax.training import augment

KEY = jax.random.key(0)
IMAGE = jnp.asarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8))


def draws(augmentation, count=200):
    return np.asarray(jax.vmap(augmentation, (0, None))(jax.random.split(KEY, count), IMAGE))


def distinct(images):
    return {np.asarray(image).tobytes() for image in images}


def test_shift_reaches_an_eighth_of_the_side_in_every_direction():
    shifted = draws(augment.shift)
    padded = np.pad(IMAGE, ((2, 2), (2, 2), (0, 0)), mode="edge")
    expected = [padded[top : top + 16, left : left + 16] for top in range(5) for left in range(5)]
    assert distinct(shifted) == distinct(expected)


def test_flip_mirrors_half_of_the_images():
    flipped = draws(augment.flip)
    assert distinct(flipped) == distinct([IMAGE, IMAGE[:, ::-1]])
    share = np.mean([np.array_equal(image, IMAGE) for image in flipped])
    assert 0.4 < share < 0.6


def test_shift_and_flip_of_a_volume_move_it_along_the_axes_of_the_body():
    volume = jnp.asarray(np.random.default_rng(0).integers(0, 256, (8, 16, 4, 1), np.uint8))
    keys = jax.random.split(KEY, 300)
    shifted = jax.vmap(augment.shift, (0, None))(keys, volume)
    padded = np.pad(volume, ((1, 1), (2, 2), (0, 0), (0, 0)), mode="edge")
    expected = [padded[z : z + 8, y : y + 16] for z in range(3) for y in range(5)]
    assert distinct(shifted) == distinct(expected)
    flipped = jax.vmap(augment.flip, (0, None))(keys, volume)
    assert distinct(flipped) == distinct([volume, volume[:, :, ::-1]])


def test_dihedral_gives_all_eight_ways_to_lay_a_square():
    turned = [np.rot90(IMAGE, k) for k in range(4)]
    expected = [*turned, *(image[:, ::-1] for image in turned)]
    assert distinct(draws(augment.dihedral)) == distinct(expected)


@pytest.mark.parametrize("shape", [(6, 4, 3), (4, 6, 3, 2)])
def test_mirror_gives_all_ways_to_mirror_an_image_or_a_volume(shape):
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    keys = jax.random.split(KEY, 100)
    mirrored = jax.vmap(augment.mirror, (0, None))(keys, jnp.asarray(values))
    axes = itertools.product([False, True], repeat=len(shape) - 1)
    expected = [np.flip(values, np.flatnonzero(chosen)) for chosen in axes]
    assert distinct(mirrored) == distinct(expected)


@pytest.mark.parametrize("name", ["flip", "dihedral", "mirror"])
def test_the_labels_of_pixels_go_where_the_pixels_go(name):
    images = jnp.asarray(np.random.default_rng(1).integers(0, 256, (20, 16, 16, 3), np.uint8))
    labels = images[..., 0].astype(jnp.int32)
    keys = jax.random.split(KEY, len(images))
    moved = augment.augment_images(name, keys, images)
    with_them = augment.augment_images(name, keys, labels[..., None])[..., 0]
    assert not np.array_equal(moved, images)
    np.testing.assert_array_equal(with_them, moved[..., 0])


def test_no_augmentation_returns_the_images():
    images = jnp.asarray(IMAGE)[None]
    assert augment.augment_images("none", jax.random.split(KEY, 1), images) is images


def test_mixup_blends_by_the_share_it_returns():
    images, partners = jnp.ones((2, 8, 8, 3)), jnp.zeros((2, 8, 8, 3))
    mixed, share = augment.mixup(KEY, images, partners, 0.4)
    np.testing.assert_allclose(mixed, share, rtol=1e-6)
    assert 0 <= share <= 1


@pytest.mark.parametrize("seed", range(20))
def test_cutmix_keeps_the_share_it_returns(seed):
    images, partners = jnp.ones((2, 16, 12, 3)), jnp.zeros((2, 16, 12, 3))
    mixed, share = augment.cutmix(jax.random.key(seed), images, partners, 1.0)
    np.testing.assert_allclose(mixed.mean(), share, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(mixed[0], mixed[1])


def test_cutmix_pastes_one_box():
    images, partners = jnp.ones((1, 16, 16, 3)), jnp.zeros((1, 16, 16, 3))
    mixed, _ = augment.cutmix(jax.random.key(3), images, partners, 1.0)
    rows, columns = np.nonzero(np.asarray(mixed)[0, :, :, 0] == 0)
    box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert len(rows) == box > 0


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_the_roll_is_that_of_the_global_batch(devices):
    values = jnp.arange(8.0).reshape(devices, 8 // devices)
    roll = partial(augment.roll_global_batch, axis_name="batch")
    rolled = jax.pmap(roll, axis_name="batch", devices=jax.devices()[:devices])(values)
    np.testing.assert_array_equal(rolled.reshape(8), np.roll(np.arange(8), 1))
