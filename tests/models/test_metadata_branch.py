"""The branch for metadata: variables, missing columns in training, and the step that trains it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from lmf_jax.distributed.devices import AXIS, shard_batch
from lmf_jax.evaluation.classification.gradcam import grad_cam
from lmf_jax.losses import make_objective
from lmf_jax.models import create_model
from lmf_jax.models.metadata_branch import NUM_FEATURES, MetadataBranch
from lmf_jax.training.optimizer import make_optimizer, step_decay, train_head_only
from lmf_jax.training.state import StepSettings, create_train_state
from lmf_jax.training.step import make_train_step
from tests.helpers.forced_devices import assert_close, on_one, only, place
from tests.helpers.tiny_training import NUM_CLASSES, SIDE, random_batch, tiny_model

WIDTHS = (2, 3)
SCHEDULE = step_decay(1e-2, decay_epochs=9, decay_factor=0.5, steps_per_epoch=4)
OPTIMIZER = make_optimizer("adamw", SCHEDULE, weight_decay=5e-4)


def batch_with_metadata(seed: int, size: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    ages = rng.normal(size=(size, 1))
    sites = np.eye(3)[rng.integers(0, 3, size)]
    metadata = np.concatenate([ages, np.zeros((size, 1)), sites], axis=1)
    return {**random_batch(seed, size), "metadata": metadata.astype(np.float32)}


def test_the_branch_adds_variables_and_changes_no_name():
    def shapes(widths):
        model = create_model("resnet50", num_classes=3, metadata_widths=widths)
        further = {"metadata": jnp.zeros((1, sum(widths)))} if widths else {}
        images = jnp.zeros((1, 64, 64, 3))
        found = jax.eval_shape(lambda: model.init(jax.random.key(0), images, **further))
        return {path: leaf.shape for path, leaf in flatten_dict(found).items()}

    alone, beside = shapes(()), shapes(WIDTHS)
    assert beside[("params", "metadata", "kernel")] == (5, NUM_FEATURES)
    assert beside[("params", "head", "kernel")] == (2048 + NUM_FEATURES, 3)
    changed = {path for path in beside if beside[path] != alone.get(path)}
    assert {path[:2] for path in changed} == {("params", "metadata"), ("params", "head")}
    assert set(alone) <= set(beside)


def test_metadata_that_lack_or_are_too_many_are_refused():
    images, metadata = jnp.zeros((2, SIDE, SIDE, 3)), jnp.zeros((2, 5))
    with_branch, without = tiny_model(metadata_widths=WIDTHS), tiny_model()
    with pytest.raises(ValueError, match="Metadata are given to a model without a branch"):
        with_branch.init(jax.random.key(0), images)
    with pytest.raises(ValueError, match="Metadata are given to a model without a branch"):
        without.init(jax.random.key(0), images, metadata=metadata)
    with pytest.raises(ValueError, match="expected 5 features"):
        with_branch.init(jax.random.key(0), images, metadata=metadata[:, :4])
    with pytest.raises(ValueError, match="takes images alone"):
        create_model("unet", num_classes=2, metadata_widths=WIDTHS)


def test_whole_columns_are_missing_at_random_in_training_alone(monkeypatch):
    seen = []
    monkeypatch.setattr(jnp, "dot", lambda x, kernel, precision: seen.append(x) or x @ kernel)
    branch, metadata = MetadataBranch(WIDTHS), jnp.asarray(batch_with_metadata(0, 400)["metadata"])
    variables = branch.init(jax.random.key(0), metadata)
    branch.apply(variables, metadata)
    np.testing.assert_array_equal(seen[-1], metadata)
    branch.apply(variables, metadata, train=True, rngs={"dropout": jax.random.key(1)})
    found, metadata = np.asarray(seen[-1]), np.asarray(metadata)
    missing = [0, 1], [0, 0, 1]
    for block, empty in zip((slice(0, 2), slice(2, 5)), missing, strict=True):
        is_dropped = (found[:, block] == empty).all(axis=1) & ~(metadata[:, block] == empty).all(
            axis=1
        )
        np.testing.assert_array_equal(found[~is_dropped, block], metadata[~is_dropped, block])
        assert 10 < is_dropped.sum() < 80


def trained(devices: int, **settings: object) -> object:
    """Train two steps on the first devices; return the state on one device."""
    step_settings = StepSettings(steps_per_epoch=4, total_steps=8, seed=0, **settings)
    model = tiny_model(axis_name=AXIS, metadata_widths=WIDTHS, dtype=step_settings.dtype)
    objective = make_objective("lmf", [60, 30, 10])
    with only(devices):
        state = create_train_state(
            model,
            OPTIMIZER,
            (SIDE, SIDE, 3),
            step_settings,
            further_shapes={"metadata": (5,)},
        )
        step = make_train_step(model, objective, OPTIMIZER, step_settings)
        state = place(jax.device_get(state))
        for number in range(2):
            state = step(state, shard_batch(batch_with_metadata(number, 16)))
    return on_one(state)


@pytest.mark.parametrize("settings", [{}, {"mixup": 0.4, "accumulate": 2}, {"cutmix": 1.0}])
def test_two_devices_train_the_branch_as_one_does(settings):
    with jax.enable_x64(True):
        one, two = (trained(devices, dtype=jnp.float64, **settings) for devices in (1, 2))
        assert_close(two, one, 1e-6)
        assert np.abs(np.asarray(one.opt_state[0].mu["metadata"]["kernel"])).max() > 0


def test_a_frozen_backbone_leaves_the_branch_to_train():
    params = {name: {"kernel": jnp.ones(2)} for name in ("backbone", "head", "metadata")}
    optimizer = train_head_only(OPTIMIZER)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = optimizer.update(params, optimizer.init(params), params)
    moves = {name: bool(jnp.any(update["kernel"] != 0)) for name, update in updates.items()}
    assert moves == {"backbone": False, "head": True, "metadata": True}


def test_grad_cam_takes_the_metadata_of_the_images():
    model, batch = tiny_model(metadata_widths=WIDTHS), batch_with_metadata(0, 2)
    images, metadata = jnp.asarray(batch["image"], jnp.float32), jnp.asarray(batch["metadata"])
    variables = model.init(jax.random.key(0), images, metadata=metadata)
    heat = grad_cam(model, variables, images, jnp.zeros(2, jnp.int32), metadata)
    assert heat.shape[0] == 2 and np.isfinite(heat).all()
    assert model.apply(variables, images, metadata=metadata).shape == (2, NUM_CLASSES)
