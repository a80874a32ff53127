"""State dicts in both formats of ``torch.save``, written without torch, and malformed ones."""

import io
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from benchmarks.fuzzing.mutations import changed_bytes

STORAGES = {
    "float64": "Double",
    "float32": "Float",
    "float16": "Half",
    "bfloat16": "BFloat16",
    "int64": "Long",
    "int32": "Int",
    "int16": "Short",
    "int8": "Char",
    "uint8": "Byte",
    "bool": "Bool",
}

EMPTY_DICT = b"ccollections\nOrderedDict\n)R"
"""The opcodes of an empty ordered dict."""

SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2}}


def opcodes(value: Any) -> bytes:
    """Return the opcodes that push a plain value."""
    return pickle.dumps(value, 2)[2:-1]


def storage(dtype: str, key: str, size: int, *, legacy: bool, view: Any = None) -> bytes:
    """Return the opcodes of a storage; ``view`` is that of torch before 0.4."""
    head = b"(" + opcodes("storage") + f"ctorch\n{STORAGES[dtype]}Storage\n".encode()
    tail = opcodes(view) if legacy else b""
    return head + opcodes(key) + opcodes("cpu") + opcodes(size) + tail + b"tQ"


def tensor(stored: bytes, offset: Any, shape: Any, strides: Any) -> bytes:
    """Return the opcodes of a tensor over the opcodes of a storage."""
    places = opcodes(offset) + opcodes(shape) + opcodes(strides)
    arguments = b"(" + stored + places + b"\x89" + EMPTY_DICT + b"t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"


def plain_tensor(key: str, array: np.ndarray, *, legacy: bool) -> bytes:
    """Return the opcodes of a tensor that is all of a storage, in C order."""
    strides = tuple(step // array.itemsize for step in np.ascontiguousarray(array).strides)
    stored = storage(array.dtype.name, key, array.size, legacy=legacy)
    return tensor(stored, 0, array.shape, strides if array.ndim else ())


def state_dict(tensors: Mapping[str, bytes]) -> bytes:
    """Return the pickle of a state dict, with the versions of modules that torch adds to it."""
    items = b"".join(opcodes(name) + tensor for name, tensor in tensors.items())
    versions = b"}" + opcodes("_metadata") + EMPTY_DICT + b"sb"
    return b"\x80\x02" + EMPTY_DICT + b"(" + items + b"u" + versions + b"."


def archive(
    pickled: bytes, storages: Mapping[str, bytes], *, method: int = zipfile.ZIP_STORED
) -> bytes:
    """Return a file in today's format, a zip archive."""
    members = {"data.pkl": pickled, "byteorder": b"little", "version": b"3\n"}
    members |= {f"data/{key}": content for key, content in storages.items()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as written:
        for name, content in members.items():
            written.writestr(zipfile.ZipInfo(f"weights/{name}"), content, method)
    return file.getvalue()


def sequence(
    pickled: bytes, storages: Mapping[str, np.ndarray], keys: Sequence[str] | None = None
) -> bytes:
    """Return a file in the format before torch 1.6."""
    head = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, SYSTEM)]
    listed = pickle.dumps(list(storages) if keys is None else keys, 2)
    values = (struct.pack("<q", array.size) + array.tobytes() for array in storages.values())
    return b"".join([*head, pickled, listed, *values])


def torch_file(tensors: Mapping[str, np.ndarray], *, legacy: bool) -> bytes:
    """Return a file of these tensors, each in a storage for itself."""
    keys = {name: str(number) for number, name in enumerate(tensors)}
    pickled = state_dict(
        {name: plain_tensor(keys[name], array, legacy=legacy) for name, array in tensors.items()}
    )
    if legacy:
        return sequence(pickled, {keys[name]: array for name, array in tensors.items()})
    return archive(pickled, {keys[name]: array.tobytes() for name, array in tensors.items()})


_ODD = (
    *(b"cos\nsystem\n", b"cbuiltins\neval\n", b"ctorch\nFloatStorage\n", EMPTY_DICT, b"c\n\n"),
    *(b"(", b")", b"t", b"R", b"b", b"Q", b"0", b"2", b"1", b"e", b"s", b"u", b"}", b"]", b"a"),
    *(b"h\x00", b"q\x00", b"r\xff\xff\xff\xff", b"j\xff\xff\xff\xff", b"\x85", b"\x86", b"\x87"),
    *map(opcodes, (-1, 0, 1, 2**31, 2**62, 2**63, -(2**70), 0.5, True, None, "0", "x", [], {})),
    *map(opcodes, ((), (1,), (2, 3), (2**40, 2**40), (0, 0), (1,) * 70)),
    *(
        b"\x8a\xff" + b"\xff" * 255,
        b"\x8b\xff\xff\xff\x7f",
        b"B\xff\xff\xff\x7f",
        b"\x95" + b"\xff" * 8,
    ),
    *(b"I1\n", b"L1L\n", b"S'x'\n", b"N", b"\x81", b"\x82\x01", b"o", b"i__main__\nx\n", b"."),
    b"\x85" * 5000,
)
"""Opcodes that a state dict has elsewhere, or that none has."""


def _boundaries(pickled: bytes) -> list[int]:
    """Return the places between the opcodes of a pickle."""
    return [place for _, _, place in pickletools.genops(pickled) if place is not None]


@st.composite
def changed_pickle(draw: DrawFn, pickled: bytes) -> bytes:
    """Draw the pickle with opcodes replaced, deleted, repeated or added, or bytes changed."""
    if draw(st.integers(0, 3)) == 0:
        return draw(changed_bytes([pickled]))
    for _ in range(draw(st.integers(1, 3))):
        try:
            places = [*_boundaries(pickled), len(pickled)]
        except ValueError:  # an earlier edit broke it
            break
        first = draw(st.integers(0, len(places) - 2))
        last = min(first + draw(st.sampled_from((0, 1, 1, 1, 2, 5))), len(places) - 1)
        way = draw(st.sampled_from(("odd", "odd", "odd", "delete", "twice", "move")))
        old = pickled[places[first] : places[last]]
        other = places[draw(st.integers(0, len(places) - 2))]
        new = {
            "odd": draw(st.sampled_from(_ODD)),
            "delete": b"",
            "twice": old * 2,
            "move": pickled[other : other + len(old)],
        }[way]
        pickled = pickled[: places[first]] + new + pickled[places[last] :]
    return pickled


@st.composite
def changed_archive(draw: DrawFn, content: bytes) -> bytes:
    """Draw an archive whose members or directory are changed, but whose checksums are right."""
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        members = {name: source.read(name) for name in source.namelist()}
    names = list(members)
    (pickled,) = (name for name in names if name.endswith("/data.pkl"))
    way = draw(st.sampled_from(("pickle",) * 6 + ("member", "delete", "rename", "directory")))
    if way == "pickle":
        members[pickled] = draw(changed_pickle(members[pickled]))
    name = draw(st.sampled_from(names))
    if way == "member":
        members[name] = draw(changed_bytes([members[name]]))
    elif way in ("delete", "rename"):
        taken = members.pop(name)
        members |= {f"{name}s": taken} if way == "rename" else {}
    file = io.BytesIO()
    stored = (zipfile.ZIP_STORED,) * 4 + (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    method = draw(st.sampled_from(stored))
    with zipfile.ZipFile(file, "w", method) as written:
        for name, member in members.items():
            written.writestr(zipfile.ZipInfo(name), member, method)
    content = file.getvalue()
    if way == "directory":
        entry = content.rfind(b"PK\x01\x02") + draw(st.integers(6, 45))
        number = draw(st.sampled_from((0, 1, 8, 99, 2**16 - 1, 2**31, 2**32 - 1)))
        content = content[:entry] + struct.pack("<I", number) + content[entry + 4 :]
    return content


@st.composite
def changed_sequence(draw: DrawFn, content: bytes) -> bytes:
    """Draw a file of the old format in which one of its five pickles, or any bytes, are changed."""
    stream, ends = io.BytesIO(content), [0]
    for _ in range(5):
        ends.append(ends[-1] + _boundaries(stream.read())[-1] + 1)
        stream.seek(ends[-1])
    number = draw(st.sampled_from((0, 1, 2, 3, 3, 3, 3, 3, 3, 4, 4, 5)))
    if number == 5:
        return content[: ends[5]] + draw(changed_bytes([content[ends[5] :]]))
    first, last = ends[number], ends[number + 1]
    return content[:first] + draw(changed_pickle(content[first:last])) + content[last:]
