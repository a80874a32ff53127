"""Reader of Keras' HDF5 weights, run as a subprocess with limits on time and memory.

HDF5 trusts what it reads: a damaged file can make it loop, crash, request any amount of memory or
open other files. ``lmf_jax.models.weight_files`` therefore runs this file as a program that writes
the weights as npz. It imports nothing from this package, so that it starts fast.
"""

import contextlib
import math
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

WEIGHTS = {
    1: ("kernel",),
    2: ("kernel", "bias"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}
"""The weights of a convolution or dense layer without and with bias, and of a batch norm."""

MOST_GROUPS = 10_000
"""Limit of the groups in a file of Keras 3; links between them may form cycles."""

LARGEST_ATTRIBUTE = 2**20
"""Limit of the bytes of a list of names."""

MEMORY = 2**32
"""Limit of the bytes of address space: four times the largest weights, as libraries need some."""


def main() -> None:
    """Read the file of the first argument, and write its weights to that of the second."""
    with contextlib.suppress(ValueError, OSError):  # some systems do not have this limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    path, copy, largest = sys.argv[1:]
    try:
        tensors: dict[str, Any] = read_keras(Path(path), int(largest))
    except Exception as error:  # HDF5 and h5py raise many kinds
        sys.exit(str(error) or type(error).__name__)
    with open(copy, "wb") as file:
        np.savez(file, **tensors)


def read_keras(path: Path, largest: int) -> dict[str, np.ndarray]:
    """Read the file as Keras does, which identifies the weights of a layer by their order.

    ``model.save_weights`` of Keras 3 writes ``layers/<kind>/vars/<number>``, with the name of the
    layer as an attribute; all else writes the names of layers and of weights as attributes.

    Args:
        path: A file in either layout.
        largest: Limit of the bytes of all weights.

    Returns:
        The weights by ``<layer>/<weight>``.

    Raises:
        Exception: Any that h5py raises for a broken file.
        ValueError: If weights are too large or in another file, or layers have no names.
    """
    found: dict[str, Any] = {}
    with h5py.File(path, "r") as file:
        is_keras_3 = "layers" in file and "layer_names" not in file.attrs
        for layer, weights in _keras_3_layers(file) if is_keras_3 else _layers(file):
            if len(weights) not in WEIGHTS:
                raise ValueError(f"the layer {layer} has {len(weights)} weights")
            for weight, tensor in zip(WEIGHTS[len(weights)], weights, strict=True):
                if found.setdefault(f"{layer}/{weight}", tensor) is not tensor:
                    raise ValueError(f"it has two layers {layer}")
        size = sum(_size(name, dataset) for name, dataset in found.items())
        if size > largest:
            raise ValueError(f"its tensors take {size} bytes; expected {largest} at most")
        return {name: dataset[()] for name, dataset in found.items()}


def _layers(file: Any) -> Iterator[tuple[str, list[Any]]]:
    """Yield the name and the weights of each layer that has any."""
    layers = _child(file, "model_weights") if "model_weights" in file else file
    for layer in _names(layers, "layer_names"):
        group = _child(layers, layer)
        names = _names(group, "weight_names")
        if names:
            yield layer, [_child(group, name) for name in names]


def _keras_3_layers(file: Any) -> Iterator[tuple[str, list[Any]]]:
    """Yield the same of a file that ``save_weights`` of Keras 3 has written."""
    waiting = [_child(file, "layers")]
    for _ in range(MOST_GROUPS):
        if not waiting:
            return
        group = waiting.pop()
        if not isinstance(group, h5py.Group):
            raise ValueError(f"{group.name} is not a layer")
        waiting += [_child(group, name) for name in group if name != "vars"]
        variables: Any = _child(group, "vars") if "vars" in group else ()
        if not len(variables):  # an activation and the like
            continue
        if "name" not in variables.attrs:
            raise ValueError(
                "its layers have no names; load it in Keras, and save it by model.save('FILE.h5')"
            )
        weights = [_child(variables, str(number)) for number in range(len(variables))]
        yield str(variables.attrs["name"]), weights
    raise ValueError(f"it has more than {MOST_GROUPS} groups")


def _names(group: Any, attribute: str) -> list[str]:
    """Return the names in an attribute, after checking its size."""
    identity = group.attrs.get_id(attribute)
    count, size = math.prod(identity.shape), identity.dtype.itemsize
    if count * size > LARGEST_ATTRIBUTE:
        raise ValueError(f"its {attribute} have {count} entries of {size} bytes")
    names = [name.decode() if isinstance(name, bytes) else name for name in group.attrs[attribute]]
    if len(set(names)) < len(names):
        raise ValueError(f"its {attribute} hold a name twice")
    return names


def _child(group: Any, name: str) -> Any:
    """Return the object at a path below a group; refuse links, which may lead out of the file."""
    for part in name.split("/"):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} lies elsewhere")
        group = group[part]
    return group


def _size(name: str, dataset: Any) -> int:
    """Return the bytes of a dataset, or of one of its chunks if that is more."""
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{name} is not a tensor")
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"the values of {name} lie elsewhere")
    if dataset.id.get_create_plist().get_nfilters():  # HDF5 unpacks without checking sizes
        raise ValueError(f"{name} is compressed, which Keras' own files are not")
    if dataset.dtype.kind not in "fiu":
        raise ValueError(f"{name} is of {dataset.dtype}")
    return max(dataset.size or 0, math.prod(dataset.chunks or ())) * dataset.dtype.itemsize


if __name__ == "__main__":
    main()
