"""The three architectures at full size: two devices compute what one computes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmf_jax.losses import make_objective
from lmf_jax.models import create_model
from lmf_jax.training.optimizer import make_optimizer
from lmf_jax.training.step import (
    AXIS,
    StepSettings,
    create_train_state,
    make_train_step,
    spread_over_devices,
)
from tests.training.devices import assert_close, on_one, only

SIDE, BATCH = 32, 8
COUNTS = [124, 92, 66, 48, 34, 24, 18, 13, 9, 6]


def batch(step):
    rng = np.random.default_rng(step)
    return {
        "image": rng.integers(0, 256, (BATCH, SIDE, SIDE, 3), np.uint8),
        "label": rng.integers(0, len(COUNTS), BATCH).astype(np.int32),
    }


@functools.lru_cache(maxsize=2)
def states(name, dtype, devices, steps):
    """The states after the first and the last step, as trained by ``train.py --model``."""
    settings = StepSettings(steps_per_epoch=13, total_steps=390, seed=0, dtype=dtype)
    optimizer = make_optimizer("adamw", lambda step: 1e-3, weight_decay=5e-4)
    model = create_model(name, num_classes=len(COUNTS), dtype=dtype, axis_name=AXIS)
    with only(devices):
        train_step = make_train_step(model, make_objective("lmf", COUNTS), optimizer, settings)
        state = create_train_state(model, optimizer, (SIDE, SIDE, 3), settings)
        first = None
        for step in range(steps):
            state = train_step(state, spread_over_devices(batch(step)))
            first = first or on_one(state)
    return first, on_one(state)


@pytest.mark.parametrize("name", ["resnet50", "densenet121", "efficientnet_v2_s"])
def test_the_first_step_in_float32_is_that_of_one_device(name):
    one, _ = states(name, jnp.float32, 1, 1)
    two, _ = states(name, jnp.float32, 2, 1)
    np.testing.assert_allclose(two.loss_sum, one.loss_sum, rtol=1e-5)
    assert_close(two.batch_stats, one.batch_stats, 1e-5)
    # After one step the first moment of Adam is a tenth of the summed gradient.
    gradients = jax.tree.leaves(one.opt_state[0].mu)
    largest = max(float(jnp.abs(leaf).max()) for leaf in gradients)
    for a, b in zip(jax.tree.leaves(two.opt_state[0].mu), gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize("name", ["resnet50", "densenet121", "efficientnet_v2_s"])
def test_eight_steps_in_float64_are_those_of_one_device(name):
    with jax.enable_x64(True):
        _, one = states(name, jnp.float64, 1, 8)
        _, two = states(name, jnp.float64, 2, 8)
        np.testing.assert_allclose(two.loss_sum, one.loss_sum, rtol=1e-6)
        assert_close(two.params, one.params, 1e-6)
        assert_close(two.batch_stats, one.batch_stats, 1e-6)
