"""Strategies of malformed npz files: inconsistent members, headers and sizes."""

import io
import struct
import zipfile
from collections.abc import Mapping

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from benchmarks.fuzzing.mutations import changed_bytes

_DTYPES = (
    *("'|u1'", "'<i4'", "'>i8'", "'<f4'", "'<f2'", "'<f8'", "'<c16'", "'|b1'", "'<U3'", "'|S2'"),
    *("'|O'", "'|V0'", "'<U0'", "'|V2'", "'<M8[s]'", "'<f16'", "[('a', '|O')]", "[('a', '<f4')]"),
    *("'<U1000000000'", "'<m8'", "'x'", "None", "3", "('<f4', (2,))"),
)
_SHAPES = (
    *("()", "(0,)", "(1,)", "(3,)", "(2, 3)", "(-1,)", "(1, -1)", "(10**9,)", "(1000000000000,)"),
    *("(0, 1000000000000)", "(4611686018427387904, 2, 2)", "(9223372036854775808,)", "(True,)"),
    *("[3]", "3", "('a',)", "(1.5,)", "(" + "1, " * 70 + ")", "(3, )" + " " * 200),
)


def npy(array: np.ndarray) -> bytes:
    """Return the bytes of an array in NumPy's format."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=False)
    return file.getvalue()


def npz(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return the bytes of an archive of these members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content, method)
    return file.getvalue()


def _header(dtype: str, order: str, shape: str, version: bytes) -> bytes:
    text = f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}}}".encode()
    size = "<H" if version[:1] == b"\x01" else "<I"
    return b"\x93NUMPY" + version + struct.pack(size, len(text)) + text


@st.composite
def _changed_member(draw: DrawFn, array: np.ndarray) -> bytes:
    """Draw an array of another type or shape, with another header, or changed bytes."""
    way = draw(st.sampled_from(("type", "shape", "values", "header", "header", "bytes")))
    if way == "type":
        kinds = ("u1", "i4", ">i8", "f2", "f8", "c8", "?", "U3", "S2", "M8[s]")
        return npy(np.resize(np.arange(7), array.shape).astype(draw(st.sampled_from(kinds))))
    if way == "shape":
        shapes = ((), (0,), (1,), (3,), (2, 2), (0, 4), (1, 2, 3, 4), array.T.shape)
        changed = np.resize(array, draw(st.sampled_from(shapes)))
        return npy(np.asfortranarray(changed) if draw(st.booleans()) else changed)
    if way == "values" and array.dtype.kind in "iuf" and array.size:
        changed = array.copy()
        odd = (np.nan, np.inf, -1, 1000) if array.dtype.kind == "f" else (0, 1, 99, 127)
        changed.flat[draw(st.integers(0, array.size - 1))] = draw(st.sampled_from(odd))
        return npy(changed)
    if way == "header":
        dtype = repr(array.dtype.str) if draw(st.booleans()) else draw(st.sampled_from(_DTYPES))
        shape = repr(array.shape) if draw(st.booleans()) else draw(st.sampled_from(_SHAPES))
        order = draw(st.sampled_from(("False", "False", "True", "0", "f()")))
        version = draw(
            st.sampled_from((b"\x01\x00",) * 4 + (b"\x02\x00", b"\x03\x00", b"\x09\x00"))
        )
        rest = draw(st.sampled_from((array.tobytes(), b"", b"\x00" * 24)))
        return _header(dtype, order, shape, version) + rest
    return draw(changed_bytes([npy(array)]))


_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


@st.composite
def changed_npz(draw: DrawFn, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Draw an archive of these arrays with changed, deleted, renamed or additional members."""
    members = {name: npy(array) for name, array in arrays.items()}
    for name in draw(st.lists(st.sampled_from(list(arrays)), max_size=2, unique=True)):
        way = draw(st.sampled_from(("change",) * 6 + ("delete", "rename", "add")))
        if way == "change":
            members[name] = draw(_changed_member(arrays[name]))
        elif way == "add":
            members[draw(st.sampled_from(("more", "../x", "a\x00", "é", "a/b")))] = members[name]
        else:
            taken = members.pop(name)
            members |= {f"{name}s": taken} if way == "rename" else {}
    content = npz(members, draw(st.sampled_from(_METHODS[:1] * 4 + _METHODS)))
    if draw(st.integers(0, 4)) == 0:  # sizes, flags and offsets in the directory
        entry = content.rfind(b"PK\x01\x02") + draw(st.integers(6, 45))
        number = draw(st.sampled_from((0, 1, 8, 99, 2**16 - 1, 2**31, 2**32 - 1)))
        content = content[:entry] + struct.pack("<I", number) + content[entry + 4 :]
    return content if draw(st.integers(0, 3)) else draw(changed_bytes([content], 3))
