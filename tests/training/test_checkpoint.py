import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmf_jax.errors import TrainingStopped, UserError
from lmf_jax.losses import make_objective
from lmf_jax.models.normalisation import NORMALISATIONS
from lmf_jax.training.checkpoint import Checkpoints, read_best
from lmf_jax.training.optimizer import make_optimizer
from lmf_jax.training.step import (
    AXIS,
    StepSettings,
    create_train_state,
    make_train_step,
    spread_over_devices,
)
from tests.training.tiny import SIDE, random_batch, tiny_model

SETTINGS = StepSettings(steps_per_epoch=1, total_steps=10, seed=0, ema_decay=0.5)
OPTIMIZER = make_optimizer("adamw", lambda step: 1e-2, weight_decay=5e-4)


@pytest.fixture(scope="module")
def train_step():
    objective = make_objective("lmf", [60, 30, 10])
    return make_train_step(tiny_model(axis_name=AXIS), objective, OPTIMIZER, SETTINGS)


def initial_state():
    return create_train_state(tiny_model(), OPTIMIZER, (SIDE, SIDE, 3), SETTINGS)


def open_checkpoints(folder):
    return Checkpoints(folder, NORMALISATIONS["caffe"])


def history(*scores):
    return [
        {"epoch": i, "step": i, "val_macro_f1": score} for i, score in enumerate(scores, start=1)
    ]


def steps_kept(folder):
    return sorted(int(path.name) for path in folder.iterdir())


def train_and_save(train_step, folder, scores):
    """One epoch a step; returns the state after each, copied before the next step took it."""
    checkpoints, state, states = open_checkpoints(folder), initial_state(), []
    for step, _ in enumerate(scores, start=1):
        state = train_step(state, spread_over_devices(random_batch(step, 8)))
        states.append(jax.tree.map(np.array, jax.tree.leaves(state)))
        checkpoints.save(step, state, {"next_index": step}, history(*scores[:step]))
    checkpoints.close()
    return states


def test_what_was_saved_in_the_background_is_the_state_of_its_step(train_step, tmp_path):
    scores = (0.1, 0.2, 0.3)
    states = train_and_save(train_step, tmp_path / "c", scores)
    checkpoints = open_checkpoints(tmp_path / "c")
    state, input_state, rows = checkpoints.restore_latest(initial_state())
    assert input_state == {"next_index": 3}
    assert rows == history(*scores)
    for restored, expected in zip(jax.tree.leaves(state), states[-1], strict=True):
        np.testing.assert_array_equal(restored, expected)
    state = train_step(state, spread_over_devices(random_batch(4, 8)))  # it can be trained on
    assert int(state.step) == 4


def test_the_newest_two_and_the_best_are_kept(train_step, tmp_path):
    train_and_save(train_step, tmp_path / "c", (0.1, 0.9, 0.8, 0.3, 0.2))
    assert steps_kept(tmp_path / "c") == [2, 4, 5]


def test_of_equal_scores_the_first_is_best(train_step, tmp_path):
    scores = (0.1, 0.9, 0.9, 0.3, 0.2)
    states = train_and_save(train_step, tmp_path / "c", scores)
    assert steps_kept(tmp_path / "c") == [2, 4, 5]
    checkpoints = open_checkpoints(tmp_path / "c")
    variables = checkpoints.restore_best(initial_state(), history(*scores))
    like = jax.tree.structure(initial_state())
    expected = jax.tree.unflatten(like, [jnp.asarray(x) for x in states[1]]).ema
    jax.tree.map(np.testing.assert_array_equal, variables, expected)


def test_who_reads_the_best_gets_its_variables_and_how_images_are_normalised(train_step, tmp_path):
    scores = (0.1, 0.9, 0.8, 0.3)
    states = train_and_save(train_step, tmp_path / "c", scores)
    before = sorted(path.name for path in (tmp_path / "c").rglob("*"))
    variables, normalisation = read_best(tmp_path / "c")
    expected = jax.tree.unflatten(jax.tree.structure(initial_state()), states[1]).ema
    jax.tree.map(np.testing.assert_array_equal, variables, expected)
    assert normalisation == NORMALISATIONS["caffe"]
    assert sorted(path.name for path in (tmp_path / "c").rglob("*")) == before


def test_there_is_no_best_before_an_epoch_is_over(tmp_path):
    with pytest.raises(UserError, match="no checkpoint of a finished epoch"):
        read_best(tmp_path / "nothing")
    checkpoints = open_checkpoints(tmp_path / "c")
    checkpoints.save(1, initial_state(), {}, [])
    checkpoints.close()
    with pytest.raises(UserError, match="no checkpoint of a finished epoch"):
        read_best(tmp_path / "c")


def test_a_checkpoint_within_an_epoch_does_not_compete(train_step, tmp_path):
    checkpoints, state = open_checkpoints(tmp_path / "c"), initial_state()
    checkpoints.save(1, state, {}, history(0.9))
    checkpoints.save(2, state, {}, history(0.9))  # no epoch ends at step 2
    checkpoints.save(3, state, {}, [*history(0.9), {"epoch": 2, "step": 3, "val_macro_f1": 0.1}])
    checkpoints.save(4, state, {}, [*history(0.9), {"epoch": 2, "step": 3, "val_macro_f1": 0.1}])
    checkpoints.close()
    assert steps_kept(tmp_path / "c") == [1, 3, 4]


def test_the_best_is_kept_when_the_folder_is_opened_again(train_step, tmp_path):
    state, scores = initial_state(), (0.9, 0.1, 0.2, 0.3)
    for step, _ in enumerate(scores, start=1):
        checkpoints = open_checkpoints(tmp_path / "c")
        checkpoints.save(step, state, {}, history(*scores[:step]))
        checkpoints.close()
    assert steps_kept(tmp_path / "c") == [1, 3, 4]


def test_an_empty_folder_holds_nothing_to_restore(tmp_path):
    assert open_checkpoints(tmp_path / "c").restore_latest(initial_state()) is None


def test_a_disk_that_takes_no_more_is_named(tmp_path, monkeypatch):
    checkpoints, state = open_checkpoints(tmp_path / "c"), initial_state()
    checkpoints.save(1, state, {}, history(0.9))
    monkeypatch.setattr(
        checkpoints._manager, "save", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(TrainingStopped, match=rf"{tmp_path / 'c'} \(disk full\).*--resume"):
        checkpoints.save(2, state, {}, history(0.9))
    checkpoints.close()
    assert steps_kept(tmp_path / "c") == [1]
