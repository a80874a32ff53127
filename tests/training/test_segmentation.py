"""The segmentation steps: equal on any number of devices, and the validation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmf_jax.config import Config
from lmf_jax.distributed.devices import shard_batch
from lmf_jax.errors import TrainingStopped
from lmf_jax.evaluation.segmentation.metrics import case_counts
from lmf_jax.losses import make_objective
from lmf_jax.training import segmentation
from lmf_jax.training.loop import prefetch
from lmf_jax.training.state import StepSettings, create_train_state
from lmf_jax.training.step import make_train_step
from tests.helpers.forced_devices import assert_close, on_one, only, place
from tests.helpers.tiny_training import tiny_unet
from tests.training.test_step import OPTIMIZER

COUNTS = [3000, 800, 200]
SHAPES = {2: (16, 16, 3), 3: (8, 8, 8, 2)}
"""Of images and of volumes."""


def random_batch(seed, size, shape):
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (size, *shape), np.uint8)
    image = image if len(shape) == 3 else image.astype(np.float32) / 64 - 2
    label = random.choice(3, (size, *shape[:-1]), p=(0.8, 0.15, 0.05)).astype(np.int32)
    label[0] = 0  # an image of background alone
    return {"image": image, "label": label}


def train(devices, steps, dims, loss, dtype, **settings):
    """Train the tiny U-Net on the first devices, and return its state, on one device."""
    normalization = {} if dims == 2 else {"normalization": None}
    settings = StepSettings(
        steps_per_epoch=4, total_steps=8, seed=0, dtype=dtype, **normalization, **settings
    )
    model = tiny_unet(spatial_dims=dims, num_classes=3, dtype=dtype)
    with only(1):
        state = create_train_state(model, OPTIMIZER, SHAPES[dims], settings)
    with only(devices):
        step = make_train_step(model, make_objective(loss, COUNTS), OPTIMIZER, settings)
        state = place(jax.device_get(state))
        for i in range(steps):
            state = step(state, shard_batch(random_batch(i, 8, SHAPES[dims])))
    return on_one(state)


@pytest.mark.slow
@pytest.mark.usefixtures("each_form")
@pytest.mark.parametrize(
    ("dims", "loss", "settings"),
    [
        (2, "lmf", {"augment": "dihedral", "accumulate": 2, "ema_decay": 0.9}),
        (2, "asymmetric-unified-focal", {"augment": "flip"}),
        (3, "mixed-focal", {"augment": "mirror", "accumulate": 2}),
    ],
    ids=str,
)
def test_eight_steps_in_float64_are_the_same_on_four_devices(dims, loss, settings):
    with jax.enable_x64(True):
        one, four = (train(n, 8, dims, loss, jnp.float64, **settings) for n in (1, 4))
        assert_close(four, one, 1e-6)


@pytest.mark.usefixtures("each_form")
def test_the_first_step_in_float32_is_the_same_on_four_devices():
    one, four = (train(n, 1, 2, "combo", jnp.float32) for n in (1, 4))
    assert_close(four, one, 1e-5)


@pytest.fixture
def program(monkeypatch):
    monkeypatch.setattr(
        segmentation, "create_model", lambda name, **settings: tiny_unet(**settings)
    )
    config = Config.of(task="segmentation", image_size=32, batch_size=8).resolve({})
    return segmentation.make_segmentation(config, COUNTS, num_examples=32)


def open_batches(program, cases):
    """Two batches of eight images, the last three of them padding."""
    shape = (32, 32, 3)
    for number in range(2):
        batch = random_batch(number, 8, shape)
        batch["mask"] = np.arange(8 * number, 8 * number + 8) < 13
        if cases is not None:
            batch["case"] = cases[8 * number : 8 * number + 8]
        yield batch


@pytest.mark.parametrize("cases", [None, np.repeat([7, 3], [5, 11])], ids=["images", "patches"])
def test_a_validation_is_the_mean_over_cases(program, cases):
    variables = program.initial_state().evaluation_variables
    figures = program.validate(variables, open_batches(program, cases), step=4).metrics
    found, losses = [], []
    for batch in open_batches(program, cases):
        inputs = (batch["image"] - np.array([123.675, 116.28, 103.53], np.float32)) / np.array(
            [58.395, 57.12, 57.375], np.float32
        )
        logits = program.model.apply(variables, jnp.asarray(inputs))
        logits = np.asarray(logits)[batch["mask"]]
        labels = batch["label"][batch["mask"]]
        found += [case_counts(*pair, 3) for pair in zip(labels, logits.argmax(-1), strict=True)]
        losses += [
            program.objective(jnp.asarray(z[None]), jnp.asarray(y[None]))
            for z, y in zip(logits, labels, strict=True)
        ]
    counts = np.array(found)
    if cases is not None:
        counts = np.stack([counts[cases[:13] == case].sum(0) for case in (3, 7)])
    right, made_up, missed = np.moveaxis(counts.astype(float), -1, 0)
    with np.errstate(invalid="ignore"):
        dsc = 2 * right / (2 * right + made_up + missed)
    dsc = np.where(np.isnan(dsc), 1, dsc)
    assert figures["val_dsc"] == pytest.approx(dsc[:, 1:].mean(), abs=1e-6)
    assert figures["val_loss"] == pytest.approx(np.mean(losses), rel=1e-4)


def test_logits_that_are_not_finite_stop_a_validation(program):
    variables = program.initial_state().evaluation_variables
    broken = jax.tree.map(lambda x: x * np.float32("nan"), variables)
    with pytest.raises(TrainingStopped, match="validation logits or loss of epoch 1 are not"):
        program.validate(broken, open_batches(program, None), step=4)


def test_pixels_that_are_not_finite_are_refused(program):
    volumes = dataclasses.replace(program.settings, normalization=None)
    batch = random_batch(0, 8, (8, 8, 8, 2))
    batch["image"][0, 0, 0, 0, 0] = np.nan

    class Stream:
        def __next__(self):
            return batch

        def get_state(self):
            return {}

        def set_state(self, state):
            pass

    with pytest.raises(ValueError, match="pixel that is not finite"):
        next(prefetch(Stream(), dataclasses.replace(program, settings=volumes)))
