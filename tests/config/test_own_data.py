"""Settings of own images by the size of the training part."""

import pytest

from lmf_jax.config import Config
from lmf_jax.config.own_data import own_data_settings
from lmf_jax.config.recipes import PAPER_SETTINGS, RECIPES, TrainingPart

SIZES = [1, 10, 17, 100, 210, 999, 1000, 5_000, 100_000]


def test_the_settings_of_a_few_hundred_images_are_a_few_epochs_of_fine_tuning():
    assert own_data_settings(210, 3, pretrained=True) == {
        "image_size": 96,
        "batch_size": 16,
        "epochs": 12,  # of 13 steps: 150 are reached
        "learning_rate": 1e-4,
        "decay_epochs": 8,
        "augment": "flip",
        "ema_decay": 0.0,
    }


@pytest.mark.parametrize("pretrained", [False, True])
@pytest.mark.parametrize("num_classes", [1, 2, 7, 100])
def test_more_images_take_fewer_epochs_and_more_steps(num_classes, pretrained):
    settings = [own_data_settings(n, num_classes, pretrained=pretrained) for n in SIZES]
    epochs = [s["epochs"] for s in settings]
    steps = [
        s["epochs"] * max(1, n // s["batch_size"]) for n, s in zip(SIZES, settings, strict=True)
    ]
    assert steps[0] >= 40 and epochs[-1] <= 30
    small = [e for n, e in zip(SIZES, epochs, strict=True) if n < 1000]
    assert small == sorted(small, reverse=True) and steps[-1] == max(steps)
    assert all(0 < s["decay_epochs"] <= s["epochs"] for s in settings)


def test_random_weights_take_more_and_larger_steps():
    found, random = (own_data_settings(210, 3, pretrained=p) for p in (True, False))
    assert random["epochs"] >= 3 * found["epochs"]
    assert random["learning_rate"] > found["learning_rate"]


def test_a_given_image_size_is_kept():
    assert own_data_settings(210, 3, 224, pretrained=True)["image_size"] == 224


@pytest.mark.parametrize("counts", [(0, 3), (10, 0)])
def test_an_empty_training_part_is_refused(counts):
    with pytest.raises(ValueError, match=f"There are {counts[0]} training images of {counts[1]}"):
        own_data_settings(*counts, pretrained=True)


def test_only_own_data_are_measured_by_the_default_recipe():
    part = TrainingPart(210, 3, None, pretrained=True, is_own_data=False)
    assert RECIPES["auto"].settings(part) == {}


def test_the_recipe_of_the_paper_replaces_the_defaults_of_a_dataset_and_flags_win():
    config = Config.of(dataset="digits_lt", recipe="paper", epochs=7)
    resolved = config.resolve({"epochs": 30, "image_size": 32}, PAPER_SETTINGS)
    settings = resolved.settings()
    expected = {**PAPER_SETTINGS, "epochs": 7}
    assert {name: settings[name] for name in expected} == expected


def test_the_normalization_is_that_of_the_model_which_the_recipe_chose():
    resolved = Config().resolve({}, {"model": "resnet50_v1"})
    assert resolved.model.normalization == "caffe"
    resolved = Config.of(model="resnet50").resolve({}, {"model": "resnet50_v1"})
    assert (resolved.model.model, resolved.model.normalization) == ("resnet50", "imagenet")
