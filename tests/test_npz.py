"""Arrays are read as NumPy wrote them, without trust in their headers; see test_medmnist."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from lmf_jax.errors import UserError
from lmf_jax.npz import read_arrays

ARRAYS = {
    "scores": np.arange(12, dtype=np.float32).reshape(3, 4),
    "turned": np.asfortranarray(np.arange(24).reshape(2, 3, 4)),
    "names": np.array([["a", "é"], ["", "long"]]),
    "one": np.array(3, ">i2"),
    "none": np.zeros((0, 5)),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(save, tmp_path):
    save(tmp_path / "a.npz", **ARRAYS)
    found = read_arrays(tmp_path / "a.npz", largest=10**6)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_only_what_is_wanted_is_read(tmp_path):
    np.savez(tmp_path / "a.npz", **ARRAYS, code=np.array([print], object))
    found = read_arrays(tmp_path / "a.npz", largest=10**6, names=["one"], optional=["none", "more"])
    assert found.keys() == {"one", "none"}
    with pytest.raises(UserError, match=r"has no two; it holds scores\.npy, turned\.npy"):
        read_arrays(tmp_path / "a.npz", largest=10**6, names=["two"])
    with pytest.raises(UserError, match="holds code as pickled Python objects"):
        read_arrays(tmp_path / "a.npz", largest=10**6)


def test_a_bomb_is_refused_by_what_it_announces(tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", scores=np.zeros(2**24, np.uint8))
    assert (tmp_path / "bomb.npz").stat().st_size < 2**15
    tracemalloc.start()
    with pytest.raises(UserError, match="holds arrays of 16777344 bytes; expected 1000000 at most"):
        read_arrays(tmp_path / "bomb.npz", largest=10**6)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_numbers_that_are_no_characters_are_no_text(tmp_path):
    for code in (0x110000, 0xD800):
        np.savez(tmp_path / "a.npz", names=np.array([code], np.uint32).view("<U1"))
        with pytest.raises(UserError, match="names cannot be read"):
            read_arrays(tmp_path / "a.npz", largest=10**6)


def test_a_header_of_a_terabyte_takes_no_memory(tmp_path):
    header = io.BytesIO()
    described = {"descr": "<f4", "fortran_order": False, "shape": (2**38,)}
    np.lib.format.write_array_header_1_0(header, described)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("scores.npy", header.getvalue())
    with pytest.raises(UserError, match=r"the header of scores says \(274877906944,\)"):
        read_arrays(tmp_path / "a.npz", largest=2**50)
