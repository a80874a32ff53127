"""The steps of a multi-label run are equal on any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmf_jax.distributed.devices import AXIS, shard_batch
from lmf_jax.losses import make_multilabel_objective
from lmf_jax.training.state import StepSettings, create_train_state
from lmf_jax.training.step import make_train_step
from tests.helpers.forced_devices import assert_close, on_one, only, place
from tests.helpers.tiny_training import NUM_CLASSES, SIDE, tiny_model
from tests.training.test_step import OPTIMIZER

POSITIVE, NEGATIVE = [60, 30, 10], [40, 70, 90]
BATCH = 16


def random_batch(seed):
    """Random images; on the first of four devices the first label is always missing."""
    rng = np.random.default_rng(seed)
    label = rng.choice([-1, 0, 1], (BATCH, NUM_CLASSES), p=[0.2, 0.5, 0.3]).astype(np.int32)
    label[: BATCH // 4, 0] = -1
    return {"image": rng.integers(0, 256, (BATCH, SIDE, SIDE, 3), np.uint8), "label": label}


def train(devices, loss, **settings):
    """Train for three steps on the first devices, and return the state, on one device."""
    settings = StepSettings(steps_per_epoch=2, total_steps=4, seed=0, dtype=jnp.float64, **settings)
    model = tiny_model(dtype=jnp.float64, axis_name=AXIS)
    objective = make_multilabel_objective(loss, POSITIVE, NEGATIVE)
    with only(1):
        state = jax.device_get(create_train_state(model, OPTIMIZER, (SIDE, SIDE, 3), settings))
    with only(devices):
        step = make_train_step(model, objective, OPTIMIZER, settings)
        state = place(state)
        for seed in range(3):
            state = step(state, shard_batch(random_batch(seed)))
    assert len(state.loss_sum.sharding.device_set) == devices
    return on_one(state)


@pytest.mark.usefixtures("each_form")
@pytest.mark.parametrize(
    ("loss", "settings"),
    [("lmf", {"mixup": 0.4, "accumulate": 2, "augment": "flip"}), ("distribution-balanced", {})],
    ids=["lmf", "distribution-balanced"],
)
def test_three_steps_are_the_same_on_four_devices(loss, settings):
    with jax.enable_x64(True):
        one, four = (train(devices, loss, **settings) for devices in (1, 4))
        assert np.isfinite(one.loss_sum)
        assert_close(four, one, 1e-6)
