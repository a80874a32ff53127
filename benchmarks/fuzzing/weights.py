"""Targets that read files of pretrained weights."""

import importlib.util
import io
import json
import struct
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from safetensors.numpy import save

from benchmarks.fuzzing.harness import SLOW, Files, Target
from benchmarks.fuzzing.mutations import changed_bytes, changed_json
from benchmarks.fuzzing.npz import changed_npz
from benchmarks.fuzzing.torch_files import changed_archive, changed_sequence, torch_file
from lmf_jax.models import weight_files
from lmf_jax.models.torch_file import read_state_dict

TENSORS: Mapping[str, np.ndarray] = {
    "conv1.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "bn1.weight": np.ones(3),
    "bn1.num_batches_tracked": np.array(7),
    "fc.bias": np.ones(2, np.float16),
}


def _reader(ending: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        with mock.patch.object(weight_files, "KERAS_SECONDS", SLOW / 3):
            tensors = weight_files.read_tensors(folder / f"weights{ending}")
        for name, tensor in tensors.items():
            assert isinstance(name, str)
            assert isinstance(tensor, np.ndarray)
            assert tensor.dtype in (np.float32, np.float64), tensor.dtype

    return read


def _in_file(contents: SearchStrategy[bytes], ending: str) -> SearchStrategy[Files]:
    return contents.map(lambda content: {f"weights{ending}": content})


def _bad_npz() -> SearchStrategy[Files]:
    return _in_file(changed_npz(TENSORS), ".npz")


@st.composite
def _changed_safetensors(draw: DrawFn) -> bytes:
    """Draw a file whose header has other JSON or another length."""
    content = save(dict(TENSORS))
    (size,) = struct.unpack("<Q", content[:8])
    header = draw(changed_json(json.loads(content[8 : 8 + size])))
    sizes = (len(header),) * 7 + (0, size, 2**31, 2**63)
    return struct.pack("<Q", draw(st.sampled_from(sizes))) + header + content[8 + size :]


def _bad_safetensors() -> SearchStrategy[Files]:
    changed = st.one_of(_changed_safetensors(), changed_bytes([save(dict(TENSORS))]))
    return _in_file(changed, ".safetensors")


def keras_file(fill: Callable[[h5py.Group], Any]) -> bytes:
    """Return an HDF5 file with a layer of one handmade weight."""
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file.attrs["layer_names"] = [b"conv1"]
        layer = file.create_group("conv1")
        layer.attrs["weight_names"] = [b"kernel"]
        fill(layer)
    return memory.getvalue()


def _keras_3_file(weight: np.ndarray) -> bytes:
    """Return a file as ``save_weights`` of Keras 3 writes it."""
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        for kind, name, count in (("conv2d", "conv1", 2), ("batch_normalization", "bn", 4)):
            variables = file.create_group(f"layers/{kind}/vars")
            variables.attrs["name"] = name
            for number in range(count):
                variables[str(number)] = weight
    return memory.getvalue()


def _keras_files() -> list[bytes]:
    good = np.arange(6, dtype=np.float32).reshape(2, 3)
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = ["conv1", "bn", "pool"]
        for layer, count in (("conv1", 2), ("bn", 4), ("pool", 0)):
            names = [f"{layer}_{number}:0" for number in range(count)]
            root.create_group(layer).attrs["weight_names"] = names
            for name in names:
                root[layer][name] = good
    return [
        memory.getvalue(),
        _keras_3_file(good),
        keras_file(lambda layer: layer.create_dataset("kernel", data=good)),
        keras_file(lambda layer: layer.create_dataset("kernel", (2**40,), "f4", chunks=(2**20,))),
        keras_file(lambda layer: layer.create_dataset("kernel", (2**29,), "f8")),
        keras_file(lambda layer: layer.create_dataset("kernel", data=good, compression="gzip")),
        keras_file(lambda layer: layer.create_dataset("kernel", data="text")),
        keras_file(lambda layer: layer.create_group("kernel")),
        keras_file(lambda layer: layer.__setitem__("kernel", h5py.SoftLink("/conv1"))),
        keras_file(lambda layer: layer.__setitem__("kernel", h5py.ExternalLink("x", "/"))),
    ]


def _bad_keras() -> SearchStrategy[Files]:
    return _in_file(changed_bytes(_keras_files()), ".h5")


def _torch_files(*, legacy: bool) -> list[bytes]:
    contents = [torch_file(TENSORS, legacy=legacy)]
    if importlib.util.find_spec("torch") is None:
        return contents
    import torch

    tensors = {name: torch.from_numpy(tensor) for name, tensor in TENSORS.items()}
    few = torch.zeros(1, dtype=torch.float16)
    values = torch.arange(12.0)
    for value in (
        tensors,
        {"part": values[3:7], "crossed": values.reshape(3, 4).T, "all": values, "none": values[:0]},
        {"many": few.expand(2**36), "parameter": torch.nn.Parameter(few)},
        {"repeated": few.bfloat16().expand(3, 2), "counter": torch.tensor(7), "mask": few > 0},
        {"epoch": 3, "state_dict": tensors},
        [few],
    ):
        memory = io.BytesIO()
        torch.save(value, memory, _use_new_zipfile_serialization=not legacy)
        contents.append(memory.getvalue())
    return contents


def _bad_torch(*, legacy: bool) -> SearchStrategy[Files]:
    contents = _torch_files(legacy=legacy)
    changed = changed_sequence if legacy else changed_archive
    in_structure = st.sampled_from(contents).flatmap(changed)
    return _in_file(st.one_of(in_structure, in_structure, changed_bytes(contents)), ".pth")


def _read_torch(folder: Path) -> None:
    """Read a state dict; if torch is installed and reads it too, it reads the same."""
    path = folder / "weights.pth"
    _reader(".pth")(folder)
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    try:
        theirs = torch.load(path, weights_only=True)
    except Exception:  # torch has rules that the values do not depend on
        return
    ours = read_state_dict(path, largest=weight_files.LARGEST_WEIGHTS)
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        bits = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
        assert ours[name].shape == tuple(tensor.shape)
        assert ours[name].dtype.name == str(tensor.dtype).removeprefix("torch.")
        assert ours[name].tobytes() == bits.tobytes()


TARGETS = (
    Target("weights-npz", _bad_npz, _reader(".npz")),
    Target("weights-safetensors", _bad_safetensors, _reader(".safetensors")),
    Target("weights-h5", _bad_keras, _reader(".h5"), cost=50),
    Target("weights-pth", partial(_bad_torch, legacy=False), _read_torch),
    Target("weights-pth-legacy", partial(_bad_torch, legacy=True), _read_torch),
)
