import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmf_jax.distributed import devices as mapping
from lmf_jax.distributed.devices import AXIS, shard_batch
from lmf_jax.inference.steps import make_predict_step
from lmf_jax.losses import make_objective
from lmf_jax.models.further_inputs import model_entries
from lmf_jax.models.normalization import NORMALIZATIONS
from lmf_jax.training.optimizer import make_optimizer, step_decay
from lmf_jax.training.state import StepSettings, create_train_state
from lmf_jax.training.step import make_train_step
from tests.helpers.forced_devices import assert_close, on_one, only, place
from tests.helpers.tiny_training import NUM_CLASSES, SIDE, random_batch, tiny_model

COUNTS = [60, 30, 10]
SCHEDULE = step_decay(1e-3, decay_epochs=1, decay_factor=0.5, steps_per_epoch=4)
OPTIMIZER = make_optimizer("adamw", SCHEDULE, weight_decay=5e-4)
EVERYTHING = {"augment": "shift", "mixup": 0.4, "accumulate": 2, "ema_decay": 0.9}


@pytest.fixture(autouse=True)
def map_by(each_form):
    """Run every test with both forms of the mapped step."""


def train(devices, steps, **settings):
    """Train the tiny model on the first devices, and return its state, on one device."""
    step = train_step(mapping.map_step, devices, **settings)
    with only(devices):
        state = place(initial_state(settings.get("dtype", jnp.float32), "ema_decay" in settings))
        for i in range(steps):
            state = step(state, shard_batch(random_batch(i, 16)))
    assert len(state.loss_sum.sharding.device_set) == devices
    return on_one(state)


@functools.cache
def train_step(form, devices, *, loss="lmf", dtype=jnp.float32, **settings):
    settings = StepSettings(steps_per_epoch=4, total_steps=8, seed=0, dtype=dtype, **settings)
    model, objective = tiny_model(dtype=dtype, axis_name=AXIS), make_objective(loss, COUNTS)
    assert form is mapping.map_step
    with only(devices):
        return make_train_step(model, objective, OPTIMIZER, settings)


@functools.cache
def initial_state(dtype=jnp.float32, averages=False):
    settings = StepSettings(
        steps_per_epoch=4, total_steps=8, seed=0, dtype=dtype, ema_decay=0.9 * averages
    )
    with only(1):
        model = tiny_model(dtype=dtype, axis_name=AXIS)
        state = create_train_state(model, OPTIMIZER, (SIDE, SIDE, 3), settings)
    return jax.device_get(state)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"cutmix": 1.0, "augment": "dihedral"},
        {"loss": "ldam-drw"},
        {"loss": "wcce"},
    ],
    ids=lambda settings: "-".join(settings) or "plain",
)
def test_eight_steps_in_float64_are_the_same_on_two_devices(settings):
    """Everything at once, in both precisions, on any number of devices: ``test_many.py``."""
    with jax.enable_x64(True):
        one, two = (train(devices, 8, dtype=jnp.float64, **settings) for devices in (1, 2))
        assert_close(two, one, 1e-6)


def test_a_step_is_the_same_every_time():
    first, second = train(2, 3, **EVERYTHING), train(2, 3, **EVERYTHING)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_step_minimises_the_objective_of_the_whole_batch():
    state, initial = train(4, 1), initial_state()
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
    batch["image"][:] = batch["image"][:1]  # all alike: every micro-batch has equal statistics
    with jax.enable_x64(True), mock.patch(__name__ + ".random_batch", lambda *_: batch):
        no_dropout = mock.patch("lmf_jax.models.layers.Dropout.__call__", lambda _, x, train: x)
        train_step.cache_clear()  # what was compiled before has dropout
        with no_dropout:
            whole = train(2, 1, dtype=jnp.float64)
            parts = train(2, 1, dtype=jnp.float64, accumulate=4)
        train_step.cache_clear()
    np.testing.assert_allclose(parts.loss_sum, whole.loss_sum, rtol=1e-9)
    assert_close(parts.opt_state[0].mu, whole.opt_state[0].mu, 1e-6)


def test_the_average_follows_the_weights():
    average, states = initial_state().params, [train(1, steps) for steps in (1, 2)]
    for decay, state in zip((1 / 10, 0.15), states, strict=True):  # the second: 2 / 11 is more
        average = jax.tree.map(lambda a, b, d=decay: d * a + (1 - d) * b, average, state.params)
    assert_close(train(1, 2, ema_decay=0.15).evaluation_variables["params"], average, 1e-6)
    assert states[0].evaluation_variables["params"] is states[0].params


def test_deferred_weights_begin_at_their_step_of_a_long_training():
    """Two steps of two million lie closer together than 1e-6."""
    total, first = 2_000_000, 1_600_000
    settings = StepSettings(steps_per_epoch=total, total_steps=total, seed=0)
    batch = random_batch(0, 16)

    def losses(name, **options):
        objective = make_objective(name, COUNTS, **options)
        with only(1):
            step = make_train_step(tiny_model(axis_name=AXIS), objective, OPTIMIZER, settings)
            states = [initial_state().replace(step=np.int32(first + i)) for i in (-1, 0)]
            return [float(step(place(s), shard_batch(batch)).loss_sum) for s in states]

    deferred, never = losses("ldam-drw", drw_start=0.8), losses("ldam", form="paper", scale=30.0)
    assert deferred[0] == pytest.approx(never[0], rel=1e-6)
    assert deferred[1] != pytest.approx(never[1], rel=1e-3)


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
    state = place(initial_state())
    predict_step = make_predict_step(tiny_model(axis_name=AXIS), NORMALIZATIONS["imagenet"])
    batch = random_batch(0, 8)
    logits = predict_step(state.evaluation_variables, shard_batch(model_entries(batch)))
    assert logits.shape == (4, 2, NUM_CLASSES)
    turned = {"image": batch["image"][::-1]}
    again = predict_step(state.evaluation_variables, shard_batch(turned))
    np.testing.assert_allclose(
        again.reshape(8, -1)[::-1], logits.reshape(8, -1), rtol=1e-5, atol=1e-6
    )
