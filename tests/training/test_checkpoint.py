import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmf_jax.distributed.devices import AXIS, shard_batch
from lmf_jax.errors import TrainingStopped, UserError
from lmf_jax.losses import make_objective
from lmf_jax.models.normalization import NORMALIZATIONS
from lmf_jax.runs.best_checkpoint import read_best
from lmf_jax.training.checkpoint import Checkpoints
from lmf_jax.training.optimizer import make_optimizer
from lmf_jax.training.state import StepSettings, create_train_state
from lmf_jax.training.step import make_train_step
from tests.helpers.tiny_training import SIDE, random_batch, tiny_model

SETTINGS = StepSettings(steps_per_epoch=1, total_steps=10, seed=0, ema_decay=0.5)
OPTIMIZER = make_optimizer("adamw", lambda step: 1e-2, weight_decay=5e-4)


@pytest.fixture(scope="module")
def train_step():
    objective = make_objective("lmf", [60, 30, 10])
    return make_train_step(tiny_model(axis_name=AXIS), objective, OPTIMIZER, SETTINGS)


def initial_state():
    return create_train_state(tiny_model(), OPTIMIZER, (SIDE, SIDE, 3), SETTINGS)


def open_checkpoints(folder):
    return Checkpoints(folder, NORMALIZATIONS["caffe"], "val_macro_f1")


def history(*scores):
    return [
        {"epoch": i, "step": i, "val_macro_f1": score} for i, score in enumerate(scores, start=1)
    ]


def steps_kept(folder, but=" "):
    return sorted(int(path.name) for path in folder.iterdir() if but not in path.name)


def train_and_save(train_step, folder, scores):
    """One epoch a step; returns the state after each, copied before the next step took it."""
    checkpoints, state, states = open_checkpoints(folder), initial_state(), []
    for step, _ in enumerate(scores, start=1):
        state = train_step(state, shard_batch(random_batch(step, 8)))
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
    state = train_step(state, shard_batch(random_batch(4, 8)))  # it can be trained on
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


def test_who_reads_the_best_gets_its_variables_and_how_images_are_normalized(train_step, tmp_path):
    scores = (0.1, 0.9, 0.8, 0.3)
    states = train_and_save(train_step, tmp_path / "c", scores)
    before = sorted(path.name for path in (tmp_path / "c").rglob("*"))
    variables, normalization = read_best(tmp_path / "c")
    expected = jax.tree.unflatten(jax.tree.structure(initial_state()), states[1]).ema
    jax.tree.map(np.testing.assert_array_equal, variables, expected)
    assert normalization == NORMALIZATIONS["caffe"]
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


def change(path, kind):
    if kind == "missing":
        path.unlink()
    elif kind == "truncated":
        os.truncate(path, path.stat().st_size // 2)
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


@pytest.fixture(scope="module")
def two_checkpoints(train_step, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two") / "c"
    return folder, train_and_save(train_step, folder, (0.1, 0.2))


@pytest.mark.fault(
    "a file of the newest checkpoint is missing, cut in half, or has one bit flipped",
    "noticed and named, renamed, and the checkpoint before was used (or the file was not needed)",
)
@pytest.mark.parametrize("kind", ["missing", "truncated", "flipped"])
@pytest.mark.parametrize("name", ["state/d/*", "state/*/d/*", "record/metadata", "state/_METADATA"])
def test_the_checkpoint_before_a_broken_one_is_used(two_checkpoints, tmp_path, capsys, name, kind):
    folder, states = two_checkpoints
    shutil.copytree(folder, tmp_path / "c")
    largest = max((tmp_path / "c" / "2").glob(name), key=lambda path: path.stat().st_size)
    change(largest, kind)
    checkpoints = open_checkpoints(tmp_path / "c")
    state, input_state, rows = checkpoints.restore_latest(initial_state())
    printed = capsys.readouterr().out
    if input_state["next_index"] == 2:  # the file is not read: TensorStore has what it says twice
        assert not printed
    else:
        assert "step 2 is broken" in printed
        assert steps_kept(tmp_path / "c", ".broken") == [1]
        assert rows == history(0.1)
    expected = states[input_state["next_index"] - 1]
    for restored, saved in zip(jax.tree.leaves(state), expected, strict=True):
        np.testing.assert_array_equal(restored, saved)
    checkpoints.save(2, state, {"next_index": 2}, history(0.1, 0.2))  # its place is free again
    checkpoints.close()


@pytest.mark.fault(
    "one bit of a saved array is flipped",
    "noticed by its checksum, and the checkpoint before was used",
)
def test_values_that_the_disk_changed_are_noticed(tmp_path, capsys):
    """Arrays are most of the bytes, and nothing below us checks those of more than a kilobyte."""
    kernel = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    state = initial_state().replace(params={"kernel": jnp.asarray(kernel)})
    checkpoints = open_checkpoints(tmp_path / "c")
    for step in (1, 2):
        checkpoints.save(step, state, {}, history(0.9))
    checkpoints.close()
    (path,) = (p for p in (tmp_path / "c" / "2").rglob("d/*") if kernel.tobytes() in p.read_bytes())
    content = bytearray(path.read_bytes())
    content[content.index(kernel.tobytes()) + kernel.nbytes // 2] ^= 0x10
    path.write_bytes(content)
    open_checkpoints(tmp_path / "c").restore_latest(state)
    assert "step 2 is broken (its params were changed)" in capsys.readouterr().out


@pytest.mark.fault(
    "all checkpoints are broken",
    "one sentence; nothing was moved or removed",
)
def test_with_no_whole_checkpoint_all_stay_where_they_are(two_checkpoints, tmp_path):
    shutil.copytree(two_checkpoints[0], tmp_path / "c")
    for step in "12":
        change(tmp_path / "c" / step / "record" / "metadata", "flipped")
    with pytest.raises(UserError, match=r"Every checkpoint in .* is broken \(2: .*; 1: "):
        open_checkpoints(tmp_path / "c").restore_latest(initial_state())
    assert steps_kept(tmp_path / "c") == [1, 2]


@pytest.mark.fault(
    "the checkpoint of the best epoch is broken",
    "one sentence; nothing was tested with another",
)
def test_a_broken_best_checkpoint_is_not_tested(two_checkpoints, tmp_path):
    shutil.copytree(two_checkpoints[0], tmp_path / "c")
    change(tmp_path / "c" / "1" / "record" / "metadata", "flipped")
    checkpoints = open_checkpoints(tmp_path / "c")
    with pytest.raises(TrainingStopped, match=r"best epoch, step 1 .* is broken"):
        checkpoints.restore_best(initial_state(), history(0.2, 0.1))
    change(tmp_path / "c" / "2" / "record" / "metadata", "flipped")
    with pytest.raises(UserError, match=r"A checkpoint in .* is broken"):
        read_best(tmp_path / "c")


def test_the_best_that_the_second_newest_knows_is_kept(train_step, tmp_path):
    """If the newest breaks, the one before is all there is to say which was best."""
    train_and_save(train_step, tmp_path / "c", (0.5, 0.1, 0.2, 0.9))
    assert steps_kept(tmp_path / "c") == [1, 3, 4]


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
