"""The search for ImageNet weights: a file that is there, else a download, else one line."""

from functools import partial

import h5py
import numpy as np
import pytest

from lmf_jax.errors import UserError
from lmf_jax.models import starting_weights
from lmf_jax.models.registry import get_model
from lmf_jax.models.starting_weights import KNOWN_FILES, find_starting_weights
from lmf_jax.models.weight_files import IMAGENET_URL, fetch_imagenet_weights

TORCHVISION_FILE = get_model("resnet50").torchvision.imagenet_file


@pytest.fixture
def downloads(monkeypatch):
    """Return the list of models whose torchvision weights are asked for; all are there."""
    models = []

    def fetch(model, folder):
        models.append(model)
        return folder / get_model(model).torchvision.imagenet_file

    monkeypatch.setattr(starting_weights, "fetch_imagenet_weights", fetch)
    return models


@pytest.fixture
def offline(monkeypatch):
    """Nothing listens at this address, so a download fails at once."""
    fetch = partial(fetch_imagenet_weights, url="http://127.0.0.1:9/models")
    monkeypatch.setattr(starting_weights, "fetch_imagenet_weights", fetch)


def write_layers(path, *layers):
    """Write a file with the names of the layers; an npz is known by its own name."""
    if path.suffix == ".npz":
        path.touch()
        return
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = list(layers)
        for layer in layers:
            file.create_group(layer).attrs["weight_names"] = ["kernel"]
            file[layer]["kernel"] = np.zeros(3)


LAYERS = {"resnet50_v1": "conv1", "resnet50_keras": "conv1_conv"}
FITTING = [(name, model) for name, models in KNOWN_FILES.items() for model in models]


@pytest.mark.parametrize(("name", "model"), FITTING)
def test_a_known_file_comes_first_with_the_model_that_it_fits(name, model, tmp_path, downloads):
    write_layers(tmp_path / name, LAYERS[model])
    (tmp_path / TORCHVISION_FILE).touch()
    for asked in (None, model):
        found = find_starting_weights(asked, tmp_path)
        assert (found.pretrained, found.model) == (str(tmp_path / name), model)
        assert found.model in found.note and name in found.note and downloads == []


def test_a_known_file_with_the_layers_of_another_model_is_passed_over(tmp_path, offline):
    name = "resnet50_weights_tf_dim_ordering_tf_kernels.h5"
    write_layers(tmp_path / name, "conv1_conv")
    assert find_starting_weights("resnet50_v1", tmp_path).pretrained == "none"
    assert find_starting_weights(None, tmp_path).model == "resnet50_keras"
    write_layers(tmp_path / name, "block1_conv1")
    assert find_starting_weights(None, tmp_path).pretrained == "none"


def test_a_known_file_that_is_damaged_is_named(tmp_path):
    (tmp_path / "resnet50_weights_tf_dim_ordering_tf_kernels.h5").write_bytes(b"half")
    with pytest.raises(UserError, match=r"kernels.h5 cannot be read as weights .* fetch or export"):
        find_starting_weights(folder=tmp_path)


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        (("densenet121",), "densenet121"),
        (("densenet121", "resnet50"), "resnet50"),
        ((), "resnet50"),
    ],
)
def test_a_torchvision_file_comes_before_a_download(there, chosen, tmp_path, downloads):
    for model in there:
        (tmp_path / get_model(model).torchvision.imagenet_file).touch()
    found = find_starting_weights(folder=tmp_path)
    assert (found.pretrained, found.model) == ("imagenet", chosen)
    assert downloads == [chosen]


def test_a_given_model_takes_only_its_own_weights(tmp_path, downloads):
    for name in KNOWN_FILES:
        (tmp_path / name).touch()
    found = find_starting_weights("densenet121", tmp_path)
    assert (found.pretrained, found.model) == ("imagenet", "densenet121")


def test_without_a_network_one_line_says_what_to_fetch_and_where_to_put_it(tmp_path, offline):
    found = find_starting_weights(folder=tmp_path / "weights")
    assert (found.pretrained, found.model) == ("none", None)
    assert "\n" not in found.note
    assert "no ImageNet weights, so training starts from random ones" in found.note
    assert f"fetch {IMAGENET_URL}/{TORCHVISION_FILE}" in found.note.replace(
        "http://127.0.0.1:9/models", IMAGENET_URL
    )
    assert f"put it into {tmp_path / 'weights'}" in found.note


def test_a_model_without_published_weights_starts_from_random_ones(tmp_path):
    found = find_starting_weights("resnet50_v1", tmp_path)
    assert found.pretrained == "none"
    assert "There are no torchvision weights for resnet50_v1; give --pretrained" in found.note
