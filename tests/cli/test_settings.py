"""``train.py`` on a folder of images with few flags: what it chooses, says, records and keeps."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import train as training
from lmf_jax.cli import settings
from lmf_jax.cli.command_line import parse_config
from lmf_jax.config.own_data import own_data_settings
from lmf_jax.config.recipes import PAPER_SETTINGS
from lmf_jax.errors import UserError
from lmf_jax.models.starting_weights import find_starting_weights
from lmf_jax.models.weight_files import fetch_imagenet_weights
from lmf_jax.runs.folder import read_config
from lmf_jax.training import classification
from tests.helpers.colored_images import draw_images
from tests.helpers.tiny_training import tiny_model, tiny_models

COUNTS = (40, 20, 12)
NUM_TRAINED = 50
KERAS_FILE = "resnet50_keras_imagenet.npz"

tiny = tiny_models(tiny_model, classification)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("own")
    draw_images(root / "images", COUNTS)
    return root


@pytest.fixture
def weights_dir(tmp_path, monkeypatch):
    """Return an empty weights folder; nothing can be downloaded into it."""
    from lmf_jax.models import starting_weights

    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setattr(
        settings, "find_starting_weights", partial(find_starting_weights, folder=folder)
    )
    fetch = partial(fetch_imagenet_weights, url="http://127.0.0.1:9/models")
    monkeypatch.setattr(starting_weights, "fetch_imagenet_weights", fetch)
    return folder


@pytest.fixture
def tiny_weights(weights_dir, monkeypatch):
    """Put a file of the known name into the weights folder; it is read as weights of the model."""
    (weights_dir / KERAS_FILE).write_bytes(b"weights")
    model = tiny_model(num_classes=1000)
    variables = model.init(jax.random.key(7), jnp.zeros((1, 32, 32, 3)))
    variables = jax.tree.map(np.asarray, variables)
    loaded = []

    def load(source, model):
        loaded.append((source, model))
        return variables

    monkeypatch.setattr(classification, "load_pretrained", load)
    return loaded


def words_of(root, run_dir, *words):
    dataset = ("--dataset", f"folder:{root}/images", "--data-dir", f"{root}/data")
    return [*dataset, "--run-dir", f"{run_dir}", *map(str, words)]


def resolve(root, *words):
    """Return the resolved settings of a command, with the notes."""
    config = parse_config(words_of(root, "", *words))
    dataset = training.TASKS["classification"].load_dataset(config, None)
    return settings.resolve_settings(config, dataset)


def of(config, names):
    values = config.settings()
    return {name: values[name] for name in names}


def test_without_weights_a_run_says_so_in_one_line_and_trains(root, weights_dir, tmp_path, capsys):
    training.train(parse_config(words_of(root, tmp_path / "run", "--epochs", 1)))
    lines = capsys.readouterr().out.splitlines()
    [line] = [line for line in lines if "ImageNet" in line]
    assert line.startswith("no ImageNet weights, so training starts from random ones: resnet50-")
    assert f"put it into {weights_dir}" in line
    record = json.loads((tmp_path / "run/config.json").read_text())
    expected = {**own_data_settings(NUM_TRAINED, 3, pretrained=False), "epochs": 1}
    assert {name: record["config"][name] for name in expected} == expected
    assert record["config"]["pretrained"] == "none" and record["weights"] is None


def test_found_weights_choose_the_model_and_a_resumed_run_keeps_everything(
    root, weights_dir, tiny_weights, tmp_path, capsys
):
    run_dir = tmp_path / "run"
    training.train(parse_config(words_of(root, run_dir, "--epochs", 1)))
    printed = capsys.readouterr().out
    assert f"model resnet50_v1, because the ImageNet weights {weights_dir / KERAS_FILE}" in printed
    flags = "--image-size 96 --batch-size 16 --learning-rate 0.0001 --decay-epochs 27 --augment"
    assert f"--recipe auto for {NUM_TRAINED} training images: {flags}" in printed
    assert tiny_weights[0] == (str(weights_dir / KERAS_FILE), "resnet50_v1")
    before = json.loads((run_dir / "config.json").read_text())
    assert before["config"]["model"] == "resnet50_v1" and before["config"]["recipe"] == "auto"
    assert before["weights"]["file"] == KERAS_FILE

    (weights_dir / KERAS_FILE).unlink()
    words = ["--resume", "--run-dir", str(run_dir), "--epochs", "2"]
    training.train(parse_config(words, defaults=read_config(run_dir)))
    after = json.loads((run_dir / "config.json").read_text())
    assert after == {**before, "config": {**before["config"], "epochs": 2}}
    assert "ImageNet" not in capsys.readouterr().out


def test_from_python_a_resumed_run_is_not_resolved_again(root, weights_dir, tiny_weights, tmp_path):
    run_dir = tmp_path / "run"
    words = words_of(root, run_dir, "--epochs", 1)
    training.train(parse_config(words))
    (weights_dir / KERAS_FILE).unlink()
    config = parse_config(words).replace(resume=True)
    assert training.train(config).model.config.model.model == "resnet50_v1"


def test_the_folds_of_a_cross_validation_share_the_settings(root, weights_dir, tmp_path, capsys):
    run_dir = tmp_path / "folds"
    words = ("--folds", 2, "--epochs", 1, "--image-size", 32)
    training.train(parse_config(words_of(root, run_dir, *words)))
    assert capsys.readouterr().out.count("ImageNet") == 1
    configs = [read_config(folder) for folder in (run_dir, run_dir / "fold-1", run_dir / "fold-2")]
    chosen = [of(config, own_data_settings(1, 1, pretrained=False)) for config in configs]
    assert chosen[0] == chosen[1] == chosen[2]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--epochs", 3), {"epochs": 3, "batch_size": 16}),
        (("--batch-size", 8), {"epochs": 40, "batch_size": 8}),
        (("--image-size", 64), {"image_size": 64}),
        (("--augment", "dihedral", "--optimizer", "sgd"), {"augment": "dihedral"}),
        (("--pretrained", "none"), {"pretrained": "none", "model": "resnet50"}),
        (("--model", "resnet50_v1"), {"model": "resnet50_v1", "normalization": "caffe"}),
        (("--model", "densenet121"), {"model": "densenet121", "pretrained": "none"}),
    ],
)
def test_every_flag_wins_alone(root, weights_dir, words, expected):
    (weights_dir / KERAS_FILE).touch()
    assert of(resolve(root, *words).config, expected) == expected


def test_given_weights_of_a_known_name_choose_their_model(root, tmp_path):
    config, notes = resolve(root, "--pretrained", tmp_path / KERAS_FILE)
    assert (config.model.model, config.training.learning_rate) == ("resnet50_v1", 1e-4)
    assert config.model.pretrained == str(tmp_path / KERAS_FILE) and len(notes) == 1


def test_an_address_is_kept_and_the_file_behind_it_chooses_the_model(root, tmp_path, monkeypatch):
    address = f"https://weights.example/{KERAS_FILE}"
    monkeypatch.setattr(settings, "fetch_weights", {address: tmp_path / KERAS_FILE}.__getitem__)
    config = resolve(root, "--pretrained", address).config
    assert (config.model.model, config.model.pretrained) == ("resnet50_v1", address)
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"--pretrained is http://a.org/b.pth; expected a file, or"):
        resolve(root, "--pretrained", "http://a.org/b.pth")


def test_the_recipe_of_the_paper_takes_all_its_settings(root, weights_dir):
    (weights_dir / KERAS_FILE).touch()
    config, notes = resolve(root, "--recipe", "paper")
    assert of(config, PAPER_SETTINGS) == dict(PAPER_SETTINGS)
    assert "--recipe paper for" in notes[0]
    assert resolve(root, "--recipe", "paper", "--epochs", 5).config.training.epochs == 5


def test_other_datasets_keep_their_defaults(tmp_path):
    config = parse_config(["--data-dir", str(tmp_path)])
    dataset = training.TASKS["classification"].load_dataset(config, None)
    resolved, notes = settings.resolve_settings(config, dataset)
    assert notes == () and resolved == config.resolve(dataset.defaults)
    expected = {"model": "resnet50", "pretrained": "none", "optimizer": "adamw", "epochs": 30}
    assert of(resolved, expected) == expected


def test_a_recipe_is_one_of_the_registered_and_not_given_with_resume(root, tmp_path):
    with pytest.raises(UserError, match="--recipe is short; expected one of auto, paper"):
        parse_config(["--recipe", "short"])
    with pytest.raises(UserError, match="--recipe is paper; expected auto with --task segm"):
        parse_config(["--task", "segmentation", "--recipe", "paper"])
    config = resolve(root, "--pretrained", "none").config
    with pytest.raises(UserError, match="--recipe has no effect with --resume"):
        words = ["--resume", "--run-dir", str(tmp_path), "--recipe", "paper"]
        parse_config(words, defaults=config)


def test_a_frozen_backbone_needs_weights_that_are_there(root, weights_dir):
    with pytest.raises(UserError, match="--freeze-backbone would keep random weights"):
        resolve(root, "--freeze-backbone")
    (weights_dir / KERAS_FILE).touch()
    assert resolve(root, "--freeze-backbone").config.model.freeze_backbone
