"""A seed gives the same batches, draws, initial weights and losses with every version of JAX.

Golden values are from JAX 0.10.2. Integers are compared exactly, floats up to rounding: a different
random draw changes every digit.
"""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.batches.pipeline import train_batches
from lmf_jax.training.augment import augment_images, cutmix, mixup
from tests.helpers.tiny_architectures import create_tiny_model
from tests.helpers.tiny_training import random_batch
from tests.training.test_step import EVERYTHING, train

ROWS = [
    [29, 30, 31, 7, 26, 3, 18, 19, 24, 0, 2, 23, 38, 36, 11, 25, 9, 37, 33, 32],
    [15, 5, 17, 35, 20, 10, 28, 1, 21, 39, 22, 16, 34, 27, 12, 13, 8, 6, 14, 4],
    [36, 24, 15, 7, 26, 10, 28, 4, 2, 12, 11, 27, 6, 17, 8, 3, 35, 25, 30, 5],
]
"""Of the first three batches of 20 of 40 images."""


def test_batches_have_the_rows_of_their_seed():
    images = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    batches = train_batches(
        images,
        np.zeros(40, np.int32),
        np.arange(40),
        seed=3,
        batch_size=20,
        process_index=0,
        process_count=1,
    )
    assert [next(batches)["image"][:, 0, 0, 0].tolist() for _ in ROWS] == ROWS


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("shift", "6ae2b4a86086cdff"),
        ("flip", "9170c183db7861aa"),
        ("dihedral", "20948242a652b984"),
        ("mirror", "0b9f7bc7fa3d5dce"),
    ],
)
def test_augmented_images_are_those_of_their_keys(name, digest):
    images = jnp.asarray(random_batch(0, 32)["image"])
    augmented = augment_images(name, jax.random.split(jax.random.key(3), 32), images)
    assert hashlib.sha256(np.asarray(augmented).tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize(
    ("mix", "strength", "lam"),
    [
        (mixup, 0.4, 0.0073989),
        (mixup, 1.0, 0.0698882),
        (cutmix, 0.4, 0.7890625),
        (cutmix, 1.0, 0.7265625),
    ],
)
def test_mixed_images_have_the_weight_of_their_key(mix, strength, lam):
    images = jnp.asarray(random_batch(0, 4)["image"], jnp.float32)
    assert float(mix(jax.random.key(3), images, images[::-1], strength)[1]) == pytest.approx(
        lam, rel=1e-4
    )


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("resnet50", [0.0058869682, 0.31524682, 0.091113061]),
        ("densenet121", [-0.073573619, 0.54057366]),
        ("efficientnet_v2_s", [-0.037394464, 0.05049428, 0.29388922, 0.2452835]),
    ],
)
def test_initial_weights_are_those_of_their_seed(name, weights):
    """The last weight of every fifth array."""
    images = jnp.zeros((1, 32, 32, 3))
    variables = create_tiny_model(name).init(jax.random.key(3), images, train=False)
    random = [np.ravel(x)[-1] for x in jax.tree.leaves(variables["params"]) if np.std(x) > 0]
    np.testing.assert_allclose(random[::5], weights, rtol=1e-5)


def test_twelve_steps_in_float64_have_the_losses_of_their_seed():
    """With dropout, augmentation, mixup, accumulation and a moving average of the weights."""
    sums = {4: 58.743694341, 8: 53.932977714, 12: 51.929298220}
    with jax.enable_x64(True):
        for steps, loss_sum in sums.items():
            state = train(1, steps, dtype=jnp.float64, **EVERYTHING)
            assert float(state.loss_sum) == pytest.approx(loss_sum, rel=1e-9)
