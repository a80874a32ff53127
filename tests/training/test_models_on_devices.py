"""Small architectures train alike on one and two devices; benchmarks/devices.py has full sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmf_jax.distributed.devices import AXIS, shard_batch
from lmf_jax.losses import make_objective
from lmf_jax.training.optimizer import make_optimizer
from lmf_jax.training.state import StepSettings, create_train_state
from lmf_jax.training.step import make_train_step
from tests.helpers.forced_devices import assert_close, on_one, only, place
from tests.helpers.tiny_architectures import MODELS, NUM_CLASSES, create_tiny_model

SIDE, BATCH = 32, 32  # small batches end in chaos: Adam turns noise around 0 into full steps
COUNTS = [60, 30, 15, 10, 5]


def batch(step):
    rng = np.random.default_rng(step)
    return {
        "image": rng.integers(0, 256, (BATCH, SIDE, SIDE, 3), np.uint8),
        "label": rng.integers(0, NUM_CLASSES, BATCH).astype(np.int32),
    }


def trained(name, dtype, steps):
    """Return the states after a number of steps on one device and on two."""
    settings = StepSettings(steps_per_epoch=13, total_steps=390, seed=0, dtype=dtype)
    optimizer = make_optimizer("adamw", lambda step: 1e-3, weight_decay=5e-4)
    model = create_tiny_model(name, dtype=dtype, axis_name=AXIS)
    with only(1):
        initial = create_train_state(model, optimizer, (SIDE, SIDE, 3), settings)
        initial = jax.device_get(initial)
    for devices in (1, 2):
        with only(devices):
            step = make_train_step(model, make_objective("lmf", COUNTS), optimizer, settings)
            state = place(initial)
            for number in range(steps):
                state = step(state, shard_batch(batch(number)))
        yield on_one(state)


@pytest.mark.slow
@pytest.mark.usefixtures("each_form")
@pytest.mark.parametrize("name", MODELS)
def test_eight_steps_are_those_of_one_device(name):
    with jax.enable_x64(True):
        one, two = trained(name, jnp.float64, 8)
        np.testing.assert_allclose(two.loss_sum, one.loss_sum, rtol=1e-6)
        assert_close(two.params, one.params, 1e-6)
        assert_close(two.batch_stats, one.batch_stats, 1e-6)


@pytest.mark.usefixtures("each_form")
@pytest.mark.parametrize("name", MODELS)
def test_the_first_step_in_float32_is_that_of_one_device(name):
    one, two = trained(name, jnp.float32, 1)
    np.testing.assert_allclose(two.loss_sum, one.loss_sum, rtol=1e-6)
    assert_close(two.batch_stats, one.batch_stats, 1e-6)
    # After one step the first moment of Adam is a tenth of the summed gradient.
    assert_close(two.opt_state[0].mu, one.opt_state[0].mu, 1e-5)
