"""Reader of the state dicts that ``torch.save`` writes, without torch and without running a pickle.

Since torch 1.6 a file is a zip archive: ``<folder>/data.pkl`` is the pickle of the dict, and
``<folder>/data/<key>`` has the values of a storage. Before, it was a sequence: three pickles that
identify the format, the pickle of the dict, the pickle of the list of keys, and for each of them
the number of values (eight bytes) and the values.

Source: ``torch/serialization.py``, functions ``_save`` and ``_legacy_save``.
"""

import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lmf_jax.models.torch_pickle import LARGEST_PICKLE, Storage, Tensor, read_pickle

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001

_ENCRYPTED = 0x1
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""torch stores values as they are; LZMA would allocate the memory that the file asks for."""


def read_state_dict(path: Path, *, largest: int) -> dict[str, np.ndarray]:
    """Read a state dict in either format of ``torch.save``.

    Args:
        path: The file.
        largest: Limit of the bytes of all tensors, and of all members of an archive.

    Returns:
        The tensors by name, in the type of the file, bfloat16 included. They may be read-only and
        share memory.

    Raises:
        ValueError: If the file is damaged, too large or written on a big-endian machine, or holds
            anything but tensors by name.
        Exception: Any that ``zipfile`` raises for a damaged archive.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":
            with zipfile.ZipFile(file) as archive:
                return _read_archive(archive, size, largest)
        return _read_sequence(file, size, largest)


def _read_archive(
    archive: zipfile.ZipFile, archive_size: int, largest: int
) -> dict[str, np.ndarray]:
    entries = archive.infolist()
    members = {entry.filename: entry for entry in entries}
    if not entries or len(members) < len(entries):
        raise ValueError("its archive has no members, or one of them twice")
    _check_size(sum(entry.file_size for entry in entries), largest)
    # As many bytes are allocated as the directory announces.
    if max(entry.compress_size for entry in entries) > archive_size:
        raise ValueError("it is truncated, or the directory of its archive is damaged")
    folder = entries[0].filename.partition("/")[0]

    def member(name: str, size: int) -> bytes:
        entry = members.get(f"{folder}/{name}")
        if entry is None:
            raise ValueError(f"it has no {name}")
        if entry.file_size > size:
            raise ValueError(f"its {name} has {entry.file_size} bytes; expected {size} at most")
        if entry.flag_bits & _ENCRYPTED or entry.compress_type not in _COMPRESSIONS:
            raise ValueError(f"its {name} is encrypted or compressed, as torch never does")
        return archive.read(entry)

    if f"{folder}/byteorder" in members and member("byteorder", 16) != b"little":
        raise ValueError("it was written on a big-endian machine")
    tensors = _tensors(read_pickle(io.BytesIO(member("data.pkl", LARGEST_PICKLE))), largest)

    def values(storage: Storage) -> bytes:
        return member(f"data/{storage.key}", storage.size * storage.dtype.itemsize)

    return _arrays(tensors, values)


def _read_sequence(file: BinaryIO, file_size: int, largest: int) -> dict[str, np.ndarray]:
    file.seek(0)
    pickles = io.BytesIO(file.read(LARGEST_PICKLE))
    if read_pickle(pickles) != MAGIC_NUMBER or read_pickle(pickles) != PROTOCOL_VERSION:
        raise ValueError("it is not a file of torch.save")
    system = read_pickle(pickles)
    if type(system) is not dict or system.get("little_endian") is not True:
        raise ValueError("it was not written on a little-endian machine")
    tensors = _tensors(read_pickle(pickles), largest)
    keys = read_pickle(pickles)
    if type(keys) is not list or not all(isinstance(key, str) for key in keys):
        raise ValueError("its list of storages is damaged")
    places = _places(file, pickles.tell(), keys, tensors)

    def values(storage: Storage) -> bytes:
        if storage.key not in places:
            raise ValueError(f"it has no storage {storage.key[:40]}")
        size = storage.size * storage.dtype.itemsize
        if places[storage.key] + size > file_size:  # as many bytes are allocated as are asked for
            raise ValueError("it is truncated")
        file.seek(places[storage.key])
        return file.read(size)

    return _arrays(tensors, values)


def _places(
    file: BinaryIO, place: int, keys: list[str], tensors: Mapping[str, Tensor]
) -> dict[str, int]:
    """Return where the values of each storage begin; the first count is at ``place``."""
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    places: dict[str, int] = {}
    for key in keys:
        if key not in storages or key in places:
            raise ValueError(f"its storage {key[:40]} belongs to no tensor, or is listed twice")
        file.seek(place)
        if file.read(8) != struct.pack("<q", storages[key].size):
            raise ValueError(f"its storage {key[:40]} has another size than its tensors say")
        places[key] = place + 8
        place += 8 + storages[key].size * storages[key].dtype.itemsize
    return places


def _tensors(state_dict: Any, largest: int) -> dict[str, Tensor]:
    """Return the state dict, after checking that it holds only tensors, whose sizes are allowed."""
    if type(state_dict) is not dict:
        raise ValueError("it holds no dict; save the state dict of the model")
    for name, value in state_dict.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{name[:40]} is not a tensor; save the state dict of the model alone")
    # A view may repeat a few values any number of times.
    _check_size(sum(map(_bytes, state_dict.values())), largest)
    storages = {tensor.storage.key: tensor.storage for tensor in state_dict.values()}
    _check_size(sum(s.size * s.dtype.itemsize for s in storages.values()), largest)
    return state_dict


def _bytes(tensor: Tensor) -> int:
    size = tensor.storage.dtype.itemsize
    for length in tensor.shape:
        size *= length
    return size


def _check_size(size: int, largest: int) -> None:
    if size > largest:
        raise ValueError(f"its tensors take {size} bytes; expected {largest} at most")


def _arrays(
    tensors: Mapping[str, Tensor], values: Callable[[Storage], bytes]
) -> dict[str, np.ndarray]:
    """Return the tensors as arrays over their storages, each of which is read once."""
    contents: dict[str, np.ndarray] = {}
    arrays = {}
    for name, tensor in tensors.items():
        storage = tensor.storage
        if storage.key not in contents:
            contents[storage.key] = _storage(storage, values(storage))
        flat = contents[storage.key]
        if flat.dtype != storage.dtype or len(flat) != storage.size:
            raise ValueError(f"its storage {storage.key[:40]} has two sizes or types")
        part = flat[storage.start : storage.stop]
        arrays[name] = _view(part, tensor)
    return arrays


def _storage(storage: Storage, content: bytes) -> np.ndarray:
    expected = storage.size * storage.dtype.itemsize
    if len(content) != expected:
        raise ValueError(
            f"its storage {storage.key[:40]} has {len(content)} bytes; expected {expected}"
        )
    if storage.dtype == np.bool_:  # any byte but 0 is true, as NumPy requires 0 or 1
        return np.frombuffer(content, np.uint8) != 0
    return np.frombuffer(content, storage.dtype)


def _view(values: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Return a view whose bounds the constructor of :class:`Tensor` has checked."""
    if 0 in tensor.shape:
        return np.empty(tensor.shape, values.dtype)
    strides = [step * values.itemsize for step in tensor.strides]
    return np.ndarray(
        tensor.shape, values.dtype, values, tensor.offset * values.itemsize, tuple(strides)
    )
