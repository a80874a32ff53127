"""Files of weights: each kind is read as it was written, and nothing else is."""

import dataclasses
import functools
import gc
import hashlib
import http.server
import sys
import threading
import urllib.parse
from pathlib import Path

import h5py
import numpy as np
import pytest
import requests
from safetensors.numpy import save_file

from benchmarks.fuzzing.torch_files import torch_file
from lmf_jax.errors import UserError
from lmf_jax.models import registry, weight_files
from lmf_jax.models.weight_files import (
    describe_weights,
    fetch_imagenet_weights,
    fetch_weights,
    read_tensors,
)

# The HTTP client leaves its connections to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

RNG = np.random.default_rng(0)
KERAS = {
    "conv1": {"kernel": RNG.random((3, 3, 3, 4)), "bias": RNG.random(4)},
    "bn_conv1": {
        "gamma": RNG.random(4),
        "beta": RNG.random(4),
        "moving_mean": RNG.random(4),
        "moving_variance": RNG.random(4),
    },
    "pool": {},
}
TENSORS = {f"{layer}/{name}": x for layer, ws in KERAS.items() for name, x in ws.items()}


def write_keras(path, group=None):
    """Write the layout of Keras' ``save_weights``, where the order identifies the layers."""
    with h5py.File(path, "w") as file:
        root = file if group is None else file.create_group(group)
        root.attrs["layer_names"] = [layer.encode() for layer in KERAS]
        for layer, weights in KERAS.items():
            names = [f"{layer}_{place}:0" for place in range(len(weights))]
            root.create_group(layer).attrs["weight_names"] = [name.encode() for name in names]
            for name, tensor in zip(names, weights.values(), strict=True):
                root[layer][name] = tensor


def write_keras_3(path, **attributes):
    """Write the layout of ``save_weights`` of Keras 3: layers may lie in a model in the model."""
    with h5py.File(path, "w") as file:
        for number, (layer, weights) in enumerate(KERAS.items()):
            group = file.create_group(f"layers/functional/layers/layer_{number}")
            group.create_group("vars").attrs["name"] = attributes.get(layer, layer)
            for place, tensor in enumerate(weights.values()):
                group["vars"][str(place)] = tensor
        file.create_group("vars")


WRITERS = {
    "weights.weights.h5": write_keras_3,
    "weights.safetensors": lambda path: save_file(TENSORS, path),
    "weights.npz": lambda path: np.savez(path, **TENSORS),
    "weights.h5": write_keras,
    "model.h5": lambda path: write_keras(path, "model_weights"),
    "weights.pth": lambda path: path.write_bytes(torch_file(TENSORS, legacy=False)),
    "weights.pt": lambda path: path.write_bytes(torch_file(TENSORS, legacy=True)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_tensor_comes_back_under_its_name(name, tmp_path):
    WRITERS[name](tmp_path / name)
    tensors = read_tensors(tmp_path / name)
    assert tensors.keys() == TENSORS.keys()
    for key, tensor in tensors.items():
        np.testing.assert_allclose(tensor, TENSORS[key], rtol=1e-6)


def test_half_precision_is_widened(tmp_path):
    np.savez(tmp_path / "half.npz", kernel=np.float16([0.5, 2]))
    assert read_tensors(tmp_path / "half.npz")["kernel"].dtype == np.float32


@pytest.mark.parametrize("ending", [".safetensors", ".npz", ".h5", ".pth", ".pt"])
def test_a_broken_file_is_named(ending, tmp_path):
    path = tmp_path / f"broken{ending}"
    path.write_bytes(b"no weights")
    with pytest.raises(UserError, match=rf"broken{ending} (cannot be read as|is damaged or no)"):
        read_tensors(path)


def test_objects_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "objects.npz", kernel=np.array([{}, print], dtype=object))
    with pytest.raises(UserError, match="holds kernel as pickled Python objects"):
        read_tensors(tmp_path / "objects.npz")


@pytest.mark.parametrize("name", ["weights.bin", "weights.pkl"])
def test_other_endings_are_refused(name, tmp_path):
    with pytest.raises(UserError, match=r"expected one that ends with .safetensors, .npz, .h5"):
        read_tensors(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"There is no file .*gone.npz"):
        read_tensors(tmp_path / "gone.npz")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serve a file of random weights with a matching name from this machine."""
    content = torch_file(TENSORS, legacy=False)
    name = f"resnet50-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    spec = registry.get_model("resnet50")
    published = dataclasses.replace(spec.torchvision, imagenet_file=name)
    spec = dataclasses.replace(spec, torchvision=published)
    monkeypatch.setitem(registry._MODELS, "resnet50", spec)
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / name).write_bytes(content)
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=folder)

        def log_message(self, *args):
            asked.append(urllib.parse.urlparse(self.path).path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}", folder / name, asked
        httpd.shutdown()
    gc.collect()


def test_weights_are_fetched_once(server, tmp_path):
    url, file, asked = server
    for _ in range(2):
        path = fetch_imagenet_weights("resnet50", url=url, folder=tmp_path / "weights")
    assert path.read_bytes() == file.read_bytes()
    assert asked == [f"/{file.name}"]
    assert [path.name for path in (tmp_path / "weights").iterdir()] == [file.name]


def test_fetched_weights_are_read_without_torch(server, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it fails
    url, _, _ = server
    path = fetch_imagenet_weights("resnet50", url=url, folder=tmp_path / "weights")
    tensors = read_tensors(path)
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, TENSORS[name])


def test_what_is_not_what_its_name_says_is_not_kept(server, tmp_path):
    url, file, _ = server
    file.write_bytes(b"other bytes")
    with pytest.raises(UserError, match=r"is not resnet50-.*: its SHA-256 begins with"):
        fetch_imagenet_weights("resnet50", url=url, folder=tmp_path / "weights")
    assert not list((tmp_path / "weights").iterdir())


def test_a_fetched_file_that_changed_is_refused(server, tmp_path):
    url, _, _ = server
    path = fetch_imagenet_weights("resnet50", url=url, folder=tmp_path / "weights")
    path.write_bytes(b"bit rot")
    with pytest.raises(UserError, match="remove it and fetch it again"):
        fetch_imagenet_weights("resnet50", url=url, folder=tmp_path / "weights")


@pytest.mark.parametrize("reason", ["no network", "no such file"])
def test_without_the_file_one_line_says_what_to_fetch_and_where_to_put_it(reason, server, tmp_path):
    url, file, _ = server
    file.unlink()
    url = "http://127.0.0.1:9" if reason == "no network" else url
    with pytest.raises(UserError) as refusal:
        fetch_imagenet_weights("resnet50", url=url, folder=tmp_path / "weights")
    assert f"fetch {url}/{file.name} where" in str(refusal.value)
    assert f"put it into {tmp_path / 'weights'}" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_model_without_published_weights_is_refused():
    with pytest.raises(UserError, match="no torchvision weights for resnet50_v1"):
        fetch_imagenet_weights("resnet50_v1")


@pytest.fixture
def https(server, monkeypatch):
    """Let requests for https://weights.example/ reach the server; the rest has no network."""
    url, file, asked = server
    get = requests.get

    def get_from_server(address, **settings):
        scheme, _, rest = address.partition("https://weights.example/")
        if scheme or not rest:
            raise requests.ConnectionError("no network")
        return get(f"{url}/{rest}", **settings)

    monkeypatch.setattr(requests, "get", get_from_server)
    return f"https://weights.example/{file.name}", file, asked


def test_an_address_is_fetched_once_and_its_hash_printed(https, tmp_path, capsys):
    address, file, asked = https
    path = fetch_weights(f"{address}?download=true", folder=tmp_path / "weights")
    assert path.name == file.name and path.read_bytes() == file.read_bytes()
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert capsys.readouterr().out == f"downloaded {file.name}, SHA-256 {digest}\n"
    assert fetch_weights(f"{address}?download=true", folder=tmp_path / "weights") == path
    assert len(asked) == 1 and capsys.readouterr().out == ""
    assert [p for p in (tmp_path / "weights").rglob("*") if p.is_file()] == [path]


def test_two_addresses_with_one_name_are_two_files(https, tmp_path):
    address, _, asked = https
    paths = [fetch_weights(f"{address}{end}", folder=tmp_path) for end in ("", "?version=2")]
    assert paths[0] != paths[1] and paths[0].name == paths[1].name and len(asked) == 2


def test_pretrained_takes_an_address(https, tmp_path, monkeypatch):
    address, file, _ = https
    monkeypatch.setattr(
        weight_files, "fetch_weights", functools.partial(fetch_weights, folder=tmp_path / "weights")
    )
    assert weight_files.weights_path(address, "resnet50").read_bytes() == file.read_bytes()
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert describe_weights(address, "resnet50") == {"file": file.name, "sha256": digest}


def assert_nothing_is_left(folder):
    assert [path for path in folder.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("reason", ["no network", "no such file"])
def test_without_the_file_at_an_address_one_line_says_where_to_put_it(reason, https, tmp_path):
    address, file, _ = https
    file.unlink()
    if reason == "no network":
        address = address.replace("weights.example", "other.example")
    with pytest.raises(UserError) as refusal:
        fetch_weights(address, folder=tmp_path / "weights")
    assert "\n" not in str(refusal.value)
    sentence, _, folder = str(refusal.value).rpartition(" and put it into ")
    assert sentence.endswith(f"; fetch {address} where there is a network,")
    assert_nothing_is_left(tmp_path / "weights")
    put = Path(folder.removesuffix("."))
    put.mkdir(parents=True, exist_ok=True)
    (put / file.name).write_bytes(b"by hand")
    assert fetch_weights(address, folder=tmp_path / "weights").read_bytes() == b"by hand"


def test_a_download_stops_at_the_largest_size(https, tmp_path, monkeypatch):
    address, _, _ = https
    monkeypatch.setattr(weight_files, "LARGEST_WEIGHTS", 100)
    with pytest.raises(UserError, match=r"has more than 100 bytes, the limit of a file of weights"):
        fetch_weights(address, folder=tmp_path / "weights")
    assert_nothing_is_left(tmp_path / "weights")


def test_an_address_that_leads_to_plain_http_is_refused(https, tmp_path):
    address, file, asked = https
    file.unlink()
    file.mkdir()  # the server sends clients to the same address with a slash
    with pytest.raises(UserError, match=r"leads to http://.*, which is not https; download the f"):
        fetch_weights(address, folder=tmp_path / "weights")
    assert len(asked) == 1
    assert_nothing_is_left(tmp_path / "weights")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://a.org/model.pth", r"is http://a.org/model.pth; expected a file, or an address h"),
        ("ftp://a.org/model.pth", "expected a file, or an address https://"),
        ("https:///model.pth", "expected a file, or an address https://"),
        ("https://[a/model.pth", "expected a file, or an address https://"),
        ("https://me:secret@a.org/model.pth", r"^The address .* has a user name or password, whi"),
        ("https://a.org/", "expected the address of a file that ends with .safetensors, .npz, .h5"),
        ("https://a.org/model.bin?x=.pth", "expected the address of a file that ends with"),
        ("https://a.org/..%2F..%2F.pth", "expected the address of a file that ends with"),
    ],
)
def test_other_addresses_are_refused_before_anything_is_asked(address, message, https, tmp_path):
    with pytest.raises(UserError, match=message) as refusal:
        fetch_weights(address, folder=tmp_path / "weights")
    assert "secret" not in str(refusal.value)
    assert https[-1] == [] and not (tmp_path / "weights").exists()


def test_weights_are_known_by_their_content(tmp_path, monkeypatch):
    path = tmp_path / "weights.npz"
    path.write_bytes(b"made-up weights")
    expected = {"file": "weights.npz", "sha256": hashlib.sha256(b"made-up weights").hexdigest()}
    assert describe_weights(str(path), "resnet50") == expected
    monkeypatch.setattr(weight_files, "fetch_imagenet_weights", {"resnet50": path}.__getitem__)
    assert describe_weights("imagenet", "resnet50") == expected
    assert describe_weights("none", "resnet50") is None
    path.unlink()
    with pytest.raises(UserError, match=r"weights.npz cannot be read: No such file"):
        describe_weights(str(path), "resnet50")


def keras_layer(path, fill):
    """Write a file with a single layer of a constant kernel."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv1"]
        layer = file.create_group("conv1")
        layer.attrs["weight_names"] = [b"kernel"]
        fill(layer)


ELSEWHERE = {
    "another HDF5 file": lambda layer: layer.__setitem__("kernel", h5py.ExternalLink("a", "/b")),
    "a path to one": lambda layer: layer.__setitem__("kernel", h5py.SoftLink("/a/b")),
    "bytes of any file": lambda layer: layer.create_dataset(
        "kernel", (4,), "u1", external=[("/etc/hostname", 0, 4)]
    ),
    "a view of others": lambda layer: layer.create_virtual_dataset(
        "kernel", h5py.VirtualLayout((3,), "f4")
    ),
}


@pytest.mark.parametrize("fill", ELSEWHERE.values(), ids=ELSEWHERE)
def test_weights_that_lie_in_another_file_are_not_read(fill, tmp_path):
    keras_layer(tmp_path / "weights.h5", fill)
    with pytest.raises(UserError, match=r"kernel lies? elsewhere"):
        read_tensors(tmp_path / "weights.h5")


TOO_MUCH = {
    "a shape": (lambda layer: layer.create_dataset("kernel", (2**40,), "f4"), "take 4398046511104"),
    "chunks": (
        lambda layer: layer.create_dataset("kernel", (2**40,), "f4", chunks=(2**20,)),
        "take 4398046511104 bytes; expected 1073741824 at most",
    ),
    "a bomb": (
        lambda layer: layer.create_dataset("kernel", data=np.zeros(9), compression="gzip"),
        "kernel is compressed, which Keras",
    ),
    "words": (lambda layer: layer.create_dataset("kernel", data="text"), "kernel is of object"),
    "a group": (lambda layer: layer.create_group("kernel"), "kernel is not a tensor"),
}


@pytest.mark.parametrize(("fill", "message"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_keras_weights_that_are_no_weights_are_refused(fill, message, tmp_path):
    keras_layer(tmp_path / "weights.h5", fill)
    with pytest.raises(UserError, match=rf"weights.h5 cannot be read as weights \(.*{message}"):
        read_tensors(tmp_path / "weights.h5")


def remove_a_name(layers):
    del layers["layer_1/vars"].attrs["name"]


def add_a_cycle(layers):
    cycle = layers.create_group("cycle")
    cycle["again"] = cycle


def link_to_another_file(layers):
    layers["a"] = h5py.ExternalLink("b", "/")


def add_a_tensor(layers):
    layers["a"] = np.zeros(3)


def remove_the_first_weight(layers):
    del layers["layer_1/vars/0"]


def remove_the_last_weight(layers):
    del layers["layer_1/vars/3"]


def repeat_a_name(layers):
    layers.copy("layer_0", "a")


KERAS_3_FAULTS = {
    remove_a_name: r"layers have no names; load it .* by model.save\('FILE.h5'\)",
    add_a_cycle: "more than 10000 groups",
    link_to_another_file: "a lies elsewhere",
    add_a_tensor: "/a is not a layer",
    remove_the_first_weight: "0 lies elsewhere",
    remove_the_last_weight: "the layer bn_conv1 has 3 weights",
    repeat_a_name: "it has two layers conv1",
}


@pytest.mark.parametrize(("change", "message"), KERAS_3_FAULTS.items())
def test_weights_of_keras_3_that_cannot_be_told_apart_are_refused(change, message, tmp_path):
    write_keras_3(tmp_path / "weights.h5")
    with h5py.File(tmp_path / "weights.h5", "r+") as file:
        change(file["layers/functional/layers"])
    with pytest.raises(UserError, match=rf"weights.h5 cannot be read as weights \(.*{message}"):
        read_tensors(tmp_path / "weights.h5")


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("while True: pass", "HDF5 takes longer than 1 seconds"),
        ("import os; os.kill(os.getpid(), 11)", "HDF5 ended with code -11"),
    ],
)
def test_hdf5_may_loop_or_crash(program, message, tmp_path, monkeypatch):
    (tmp_path / "program.py").write_text(program)
    (tmp_path / "weights.h5").write_bytes(b"")
    monkeypatch.setattr(weight_files, "KERAS_READER", tmp_path / "program.py")
    monkeypatch.setattr(weight_files, "KERAS_SECONDS", 1)
    with pytest.raises(UserError, match=message):
        read_tensors(tmp_path / "weights.h5")


@pytest.mark.parametrize("kind", ["complex64", "U3", "M8[s]"])
def test_what_is_no_number_is_no_weight(kind, tmp_path):
    np.savez(tmp_path / "weights.npz", kernel=np.zeros(3, kind))
    with pytest.raises(UserError, match=r"cannot be read as weights \(kernel is of "):
        read_tensors(tmp_path / "weights.npz")
