"""The recipe of the paper: exactly the differences of a run are listed."""

import pytest

from benchmarks import paper_sweep, paper_tables
from benchmarks.paper.recipe import ALWAYS, RECIPE, SWEEP_EPOCHS, differences_from_paper
from data.registry import default_settings
from lmf_jax.cli.command_line import parse_config
from lmf_jax.config import Config, run_only_keys

NOT_TRAINED = {
    *("task", "dataset", "model", "loss", "seed", "split_seed", "alpha", "beta"),
    *("normalisation", "remat", "deterministic"),
}


def settings(options, loss="ce", weights=None):
    """Return the resolved settings of a run by their keys in config.json."""
    flags = options.recipe.run(loss, weights, 0).flags
    return parse_config(flags).resolve(default_settings(options.dataset)).record()


def named(differences):
    """Return the settings that differ, without the constant differences."""
    assert set(ALWAYS) <= set(differences)
    return [sentence.split(":")[0] for sentence in differences if sentence not in ALWAYS]


@pytest.mark.parametrize("dataset", ["odir5k", "ham10000", "isic2019", "covid19_radiography"])
@pytest.mark.parametrize("model", ["resnet50", "densenet121", "efficientnet_v2_s"])
def test_the_tables_train_with_every_stated_setting(dataset, model):
    config = settings(paper_tables.Options(dataset=dataset, model=model))
    for name, stated in RECIPE.items():
        assert config[name] in (stated.value, None), name
    assert named(differences_from_paper(config, seeds=[0])) == ["seeds"]


def test_the_stated_settings_are_those_of_the_paper():
    training = {"epochs": 100, "batch_size": 32, "learning_rate": 1e-4, "weight_decay": 5e-4}
    training |= {"optimizer": "adam-l2", "decay_epochs": 30, "decay_factor": 0.1}
    images = {"image_size": 224, "normalisation": "unit", "augment": "none"}
    loss = {"form": "released", "gamma": 1.5, "scale": 30, "max_margin": 0.5}
    expected = {**training, **images, **loss, "pretrained": "imagenet", "head": "linear"}
    assert {name: RECIPE[name].value for name in expected} == expected


def test_the_sweep_has_its_own_number_of_epochs():
    config = settings(paper_sweep.Options(), "lmf", (1.0, 0.5))
    assert named(differences_from_paper(config, seeds=[0], epochs=SWEEP_EPOCHS)) == ["seeds"]
    assert named(differences_from_paper(config, seeds=[0])) == ["epochs", "seeds"]


def test_every_flag_that_departs_is_named():
    options = paper_tables.Options(
        model="resnet50_v1",
        released_recipe=False,
        pretrained="/weights/keras.npz",
        epochs=8,
        image_size=64,
        train_flags="--precision bfloat16 --augment flip --form paper --gamma 2 --ema-decay 0.9",
    )
    weights = [(1.0, 0.5), (0.5, 1.0)]
    differences = differences_from_paper(
        settings(options, "lmf", weights[0]),
        seeds=[0, 1],
        weights=weights,
        printed_weights=(0.5, 1.0),
    )
    expected = {"model", "optimizer", "normalisation", "pretrained", "epochs", "image_size"}
    expected |= {"precision", "augment", "form", "gamma", "ema_decay", "alpha, beta", "seeds"}
    assert set(named(differences)) == expected
    assert "optimizer: adamw (paper: Adam, coupled L2)." in differences
    assert "pretrained: keras.npz (paper: torchvision's ImageNet)." in differences
    assert "epochs: 8 (paper: 100)." in differences
    expected = "alpha, beta: 1, 0.5, which has no printed result (paper: 0.5, 1)."
    assert expected in differences


def test_every_setting_of_a_classifier_that_changes_a_result_is_compared():
    """A new flag of train.py has to be named here or in the recipe."""
    other_losses = {"delta", "weight", "background_weight", "tau", "effective_number_beta"}
    other_losses |= {"drw_start", "momentum"}
    other_data = {"imbalance_ratio", "patch_size", "overlap", "foreground_share", "where"}
    other_data |= {"folds", "fold", "metadata", "pair_by"}
    names = set(Config().record())
    left = names - run_only_keys() - set(RECIPE) - NOT_TRAINED - other_losses - other_data
    assert left == set()
