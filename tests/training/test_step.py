from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmf_jax.losses import make_objective
from lmf_jax.training.optimizer import make_optimizer, step_decay
from lmf_jax.training.step import (
    AXIS,
    StepSettings,
    create_train_state,
    make_predict_step,
    make_train_step,
    spread_over_devices,
)
from tests.training.devices import assert_close, on_one, only
from tests.training.tiny import NUM_CLASSES, SIDE, random_batch, tiny_model

COUNTS = [60, 30, 10]
EVERYTHING = {"augment": "shift", "mixup": 0.4, "accumulate": 2, "ema_decay": 0.9}


def train(devices, steps, *, loss="lmf", dtype=jnp.float32, optimizer="adamw", **settings):
    """Train the tiny model on the first devices, and return its state, on one device."""
    settings = StepSettings(steps_per_epoch=4, total_steps=8, seed=0, dtype=dtype, **settings)
    schedule = step_decay(1e-3, decay_epochs=1, decay_factor=0.5, steps_per_epoch=4)
    optimizer = make_optimizer(optimizer, schedule, weight_decay=5e-4)
    model = tiny_model(dtype=dtype, axis_name=AXIS)
    with only(devices):
        step = make_train_step(model, make_objective(loss, COUNTS), optimizer, settings)
        state = create_train_state(model, optimizer, (SIDE, SIDE, 3), settings)
        for i in range(steps):
            state = step(state, spread_over_devices(random_batch(i, 16)))
    assert len(state.loss_sum.sharding.device_set) == devices
    return on_one(state)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        EVERYTHING,
        {"cutmix": 1.0, "augment": "dihedral"},
        {"loss": "ldam-drw"},
        {"loss": "wcce"},
    ],
    ids=lambda settings: "-".join(settings) or "plain",
)
def test_eight_steps_in_float64_are_the_same_on_any_number_of_devices(settings):
    with jax.enable_x64(True):
        expected = train(1, 8, dtype=jnp.float64, **settings)
        for devices in (2, 4):
            assert_close(train(devices, 8, dtype=jnp.float64, **settings), expected, 1e-6)


def test_the_first_step_in_float32_is_the_same_on_any_number_of_devices():
    # The first update of Adam hides the size of the gradient; its moments show it.
    expected = train(1, 1, **EVERYTHING)
    for devices in (2, 4):
        state = train(devices, 1, **EVERYTHING)
        for name in ("batch_stats", "loss_sum"):
            assert_close(getattr(state, name), getattr(expected, name), 1e-5)
        assert_close(state.opt_state[0].mu, expected.opt_state[0].mu, 1e-5)


def test_a_step_is_the_same_every_time():
    first, second = train(2, 3, **EVERYTHING), train(2, 3, **EVERYTHING)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_step_minimises_the_objective_of_the_whole_batch():
    state = train(4, 1)
    model = tiny_model()
    settings = StepSettings(steps_per_epoch=4, total_steps=8, seed=0)
    optimizer = make_optimizer("adamw", lambda step: 1e-3, weight_decay=0.0)
    initial = create_train_state(model, optimizer, (SIDE, SIDE, 3), settings)
    assert state.loss_sum > 0
    assert state.step == 1
    changed = [
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(initial.params), strict=True)
    ]
    assert all(changed)


def test_accumulation_without_batch_statistics_changes_nothing():
    """With the statistics of a micro-batch the gradient is another; the loss parts add up alike."""
    batch = random_batch(0, 16)
    batch["image"][:] = batch["image"][
        :1
    ]  # all images alike: every micro-batch has equal statistics
    with jax.enable_x64(True), mock.patch(__name__ + ".random_batch", lambda *_: batch):
        no_dropout = mock.patch("lmf_jax.models.layers.Dropout.__call__", lambda _, x, train: x)
        with no_dropout:
            whole = train(2, 1, dtype=jnp.float64)
            parts = train(2, 1, dtype=jnp.float64, accumulate=4)
    np.testing.assert_allclose(parts.loss_sum, whole.loss_sum, rtol=1e-9)
    assert_close(parts.opt_state[0].mu, whole.opt_state[0].mu, 1e-6)


def test_the_average_follows_the_weights():
    without, averaged = train(1, 1), train(1, 1, ema_decay=0.75)
    settings = StepSettings(steps_per_epoch=4, total_steps=8, seed=0)
    optimizer = make_optimizer("adamw", lambda step: 1e-3, weight_decay=0.0)
    initial = on_one(create_train_state(tiny_model(), optimizer, (SIDE, SIDE, 3), settings))
    expected = jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, initial.params, without.params)
    assert_close(averaged.evaluation_variables["params"], expected, 1e-6)
    assert without.evaluation_variables["params"] is without.params


def test_the_loss_sum_starts_again_with_every_epoch():
    epoch = train(1, 4)
    next_epoch = train(1, 5)
    assert 0 < next_epoch.loss_sum < epoch.loss_sum


def test_the_first_step_that_is_not_finite_is_remembered():
    bad = random_batch(2, 16)
    bad["label"][3] = NUM_CLASSES  # a label outside the classes gives NaN
    real = random_batch
    with mock.patch(__name__ + ".random_batch", lambda i, n: bad if i == 2 else real(i, n)):
        assert train(2, 4).nonfinite_step == 2
    assert train(2, 4).nonfinite_step == -1


def test_bfloat16_computes_in_half_and_keeps_float32():
    state = train(1, 2, dtype=jnp.bfloat16)
    floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert {x.dtype for x in floats} == {np.dtype(np.float32)}
    assert np.isfinite(state.loss_sum)


def test_prediction_does_not_depend_on_its_neighbours():
    model = tiny_model(axis_name=AXIS)
    settings = StepSettings(steps_per_epoch=1, total_steps=1, seed=0)
    optimizer = make_optimizer("adamw", lambda step: 1e-3, weight_decay=0.0)
    state = create_train_state(model, optimizer, (SIDE, SIDE, 3), settings)
    predict_step = make_predict_step(model)
    batch = random_batch(0, 8)
    logits = predict_step(state.evaluation_variables, spread_over_devices(batch)["image"])
    assert logits.shape == (4, 2, NUM_CLASSES)
    turned = {"image": batch["image"][::-1]}
    again = predict_step(state.evaluation_variables, spread_over_devices(turned)["image"])
    np.testing.assert_allclose(
        again.reshape(8, -1)[::-1], logits.reshape(8, -1), rtol=1e-5, atol=1e-6
    )
