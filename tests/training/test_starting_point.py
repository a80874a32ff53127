"""Training from given weights, with and without a frozen backbone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmf_jax.config import Config
from lmf_jax.distributed.devices import shard_batch
from lmf_jax.errors import UserError
from lmf_jax.training import classification
from tests.helpers.tiny_training import random_batch, tiny_model

COUNTS = [24, 18, 6]
CONFIG = Config.of(
    image_size=32, epochs=3, batch_size=8, learning_rate=1e-2, decay_epochs=2, pretrained="FILE"
).resolve({})


def weights(num_classes):
    model = tiny_model(num_classes=num_classes)
    variables = model.init(jax.random.key(7), jnp.zeros((1, 32, 32, 3)))
    variables = jax.tree.map(np.array, variables)
    variables["params"]["head"]["bias"] += 0.5
    return variables


@pytest.fixture(autouse=True)
def pretrained(monkeypatch):
    """Weights of a head for three classes, and of one for a thousand under another name."""
    files = {"FILE": weights(3), "THOUSAND": weights(1000)}
    monkeypatch.setattr(
        classification, "create_model", lambda name, **settings: tiny_model(**settings)
    )
    monkeypatch.setattr(classification, "load_pretrained", lambda source, model: files[source])
    return files


def assert_equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(found), dict(expected))


def program_of(**changes):
    return classification.make_classification(CONFIG.replace(**changes), COUNTS)


def test_the_first_state_is_the_weights(pretrained):
    program = program_of()
    state = program.initial_state()
    assert_equal(state.params, pretrained["FILE"]["params"])
    assert_equal(state.batch_stats, pretrained["FILE"]["batch_stats"])
    assert program.start == "the weights FILE"


def test_weights_that_change_later_change_no_state(pretrained):
    expected = jax.tree.map(np.array, pretrained["FILE"]["params"])
    state = program_of().initial_state()
    for leaf in jax.tree.leaves(pretrained["FILE"]):
        leaf += 1
    assert_equal(state.params, expected)


def test_a_head_of_other_classes_is_new_and_said_so(pretrained):
    program = program_of(pretrained="THOUSAND")
    state = program.initial_state()
    assert_equal(state.params["backbone"], pretrained["THOUSAND"]["params"]["backbone"])
    random_head = program_of(pretrained="none").initial_state().params["head"]
    assert_equal(state.params["head"], jax.device_get(random_head))
    assert program.start.endswith("a new head of 3 classes replaces theirs of 1,000")


def test_an_average_starts_from_the_weights_too(pretrained):
    state = program_of(ema_decay=0.9).initial_state()
    assert_equal(state.ema["params"], pretrained["FILE"]["params"])


def test_a_state_is_restored_to_the_shapes_of_the_first():
    program = program_of(freeze_backbone=True)
    shapes, state = program.state_shapes(), program.initial_state()
    assert jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), shapes) == jax.tree.map(
        lambda x: (x.shape, x.dtype, x.sharding), state
    )


def test_a_frozen_backbone_stays_as_it_is_and_its_head_learns(pretrained):
    program = program_of(freeze_backbone=True)
    state = program.initial_state()
    for seed in range(3):
        state = program.train_step(state, shard_batch(random_batch(seed, 8)))
    before = pretrained["FILE"]
    assert_equal(state.params["backbone"], before["params"]["backbone"])
    assert_equal(state.batch_stats, before["batch_stats"])
    assert not np.array_equal(state.params["head"]["kernel"], before["params"]["head"]["kernel"])
    moments = [x for x in jax.tree.leaves(state.opt_state) if x.ndim]
    assert len(moments) == 2 * len(jax.tree.leaves(before["params"]["head"])), "none for the rest"


def test_random_weights_are_not_frozen():
    with pytest.raises(UserError, match="--freeze-backbone would keep random weights"):
        CONFIG.replace(pretrained="none", freeze_backbone=True)


def test_weights_of_rgb_start_a_model_of_gray_images(pretrained):
    program = program_of(channels=1)
    assert program.start == "the weights FILE, their first kernels summed over RGB for gray images"
    found = program.initial_state().params["backbone"]["conv1"]["conv"]["kernel"]
    given = pretrained["FILE"]["params"]["backbone"]["conv1"]["conv"]["kernel"]
    assert given.shape[2] == 3  # unchanged
    np.testing.assert_allclose(found[:, :, 0], given.sum(2), rtol=1e-6)
    batch = random_batch(0, 8)
    batch["image"] = batch["image"][..., :1]
    state = program.train_step(program.initial_state(), shard_batch(batch))
    assert np.isfinite(state.loss_sum)


def test_a_model_without_a_convolution_of_rgb_is_refused(pretrained):
    del pretrained["FILE"]["params"]["backbone"]["conv1"]
    with pytest.raises(UserError, match="--channels 1 cannot start from the weights FILE: 0 conv"):
        program_of(channels=1)
