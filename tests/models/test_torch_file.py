"""State dicts of ``torch.save``: read bit for bit without torch, and nothing in them is run."""

import io
import pickle
import struct
import subprocess
import sys
import warnings
import zipfile

import ml_dtypes
import numpy as np
import pytest

from benchmarks.fuzzing.torch_files import (
    EMPTY_DICT,
    archive,
    opcodes,
    plain_tensor,
    sequence,
    state_dict,
    storage,
    tensor,
    torch_file,
)
from lmf_jax.errors import UserError
from lmf_jax.models.torch_file import read_state_dict
from lmf_jax.models.torch_pickle import LARGEST_PICKLE
from lmf_jax.models.weight_files import read_tensors

LARGEST = 2**20
VALUES = np.array([-3, 0, 1, 2, 5, 127])
DTYPES = (np.float64, np.float32, np.float16, ml_dtypes.bfloat16)
DTYPES += (np.int64, np.int32, np.int16, np.int8, np.uint8, np.bool_)
TENSORS = {
    "layer.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "layer.num_batches_tracked": np.array(7),
    "layer.empty": np.zeros((0, 3), np.float16),
    **{np.dtype(dtype).name: VALUES.astype(dtype) for dtype in DTYPES},
}

both_formats = pytest.mark.parametrize("legacy", [False, True], ids=["archive", "sequence"])


def written(pickled, storages, *, legacy):
    """Return a file with this pickle and these storages."""
    if legacy:
        return sequence(pickled, storages)
    return archive(pickled, {key: array.tobytes() for key, array in storages.items()})


def read(path, content, largest=LARGEST):
    path.write_bytes(content)
    return read_state_dict(path, largest=largest)


def one_tensor(offset, shape, strides, *, size=6, legacy, dtype="float32"):
    """Return a file with one tensor over a storage of the numbers from 0."""
    stored = storage(dtype, "0", size, legacy=legacy)
    pickled = state_dict({"x": tensor(stored, offset, shape, strides)})
    return written(pickled, {"0": np.arange(6, dtype=dtype)}, legacy=legacy)


def assert_same_bits(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name


@both_formats
def test_every_dtype_comes_back_bit_for_bit(legacy, tmp_path):
    found = read(tmp_path / "weights.pth", torch_file(TENSORS, legacy=legacy))
    assert_same_bits(found, TENSORS)


@both_formats
def test_a_file_of_weights_is_widened_to_float32(legacy, tmp_path):
    (tmp_path / "weights.pth").write_bytes(torch_file(TENSORS, legacy=legacy))
    found = read_tensors(tmp_path / "weights.pth")
    assert found["bfloat16"].dtype == np.float32
    assert found["float64"].dtype == np.float64
    np.testing.assert_array_equal(found["bfloat16"], VALUES)


@both_formats
@pytest.mark.parametrize(
    ("offset", "shape", "strides", "expected"),
    [
        (1, (2, 2), (2, 1), [[1, 2], [3, 4]]),
        (0, (3, 2), (1, 3), [[0, 3], [1, 4], [2, 5]]),
        (2, (3, 2), (0, 1), [[2, 3]] * 3),
        (5, (), (), 5),
        (6, (0, 4), (4, 1), np.zeros((0, 4))),
    ],
    ids=["part", "transposed", "expanded", "scalar", "empty"],
)
def test_views_of_a_storage(legacy, offset, shape, strides, expected, tmp_path):
    content = one_tensor(offset, shape, strides, legacy=legacy)
    np.testing.assert_array_equal(read(tmp_path / "weights.pth", content)["x"], expected)


@both_formats
def test_tensors_may_share_a_storage(legacy, tmp_path):
    stored = storage("float32", "0", 6, legacy=legacy)
    pickled = state_dict(
        {"head": tensor(stored, 0, (3,), (1,)), "tail": tensor(stored, 3, (3,), (1,))}
    )
    values = {"0": np.arange(6, dtype=np.float32)}
    found = read(tmp_path / "weights.pth", written(pickled, values, legacy=legacy))
    np.testing.assert_array_equal(found["head"], [0, 1, 2])
    np.testing.assert_array_equal(found["tail"], [3, 4, 5])


def test_files_of_python_2_and_the_first_torch(tmp_path):
    """Strings are bytes, an ordered dict is a list of pairs, and storages may be parts."""
    stored = storage("float32", "0", 6, legacy=True, view=("1", 2, 3))
    places = opcodes(1) + opcodes((2,)) + opcodes((1,))
    pair = b"](U\x01x" + b"ctorch._utils\n_rebuild_tensor\n(" + stored + places + b"tRe"
    pickled = b"\x80\x02ccollections\nOrderedDict\n](" + pair + b"e\x85R."
    content = sequence(pickled, {"0": np.arange(6, dtype=np.float32)})
    np.testing.assert_array_equal(read(tmp_path / "weights.pth", content)["x"], [3, 4])


def test_a_parameter_is_a_tensor(tmp_path):
    parameter = b"ctorch._utils\n_rebuild_parameter\n("
    parameter += plain_tensor("0", np.ones(3, np.float32), legacy=False) + b"\x88" + EMPTY_DICT
    content = archive(state_dict({"x": parameter + b"tR"}), {"0": np.ones(3, "f4").tobytes()})
    np.testing.assert_array_equal(read(tmp_path / "weights.pth", content)["x"], np.ones(3))


class Hostile:
    """An object whose pickle calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile_pickles(mark):
    """Return pickles, each of which would make a file or use up the machine."""
    import os

    shell = Hostile(os.system, f"touch {mark}")
    good = plain_tensor("0", np.ones(3, np.float32), legacy=False)
    return {
        "a shell": (pickle.dumps(shell, 2), "asks for posix.system, which no"),
        "a shell as a tensor": (pickle.dumps({"x": shell}, 2), "asks for posix.system"),
        "eval": (
            pickle.dumps(Hostile(eval, f"open({str(mark)!r}, 'w')"), 2),
            r"asks for (__builtin__|builtins).eval",
        ),
        "of protocol 4": (pickle.dumps(shell, 4), "has the opcode FRAME, which no state dict"),
        "an instance": (b"(S'x'\nios\nsystem\n.", "has the opcode STRING"),
        "an extension": (b"\x82\x01.", "has the opcode EXT1"),
        "attributes": (
            state_dict({"x": good + b"}" + opcodes("offset") + opcodes(9) + b"sb"}),
            "sets attributes of something other than a dict",
        ),
        "a called dict": (b"\x80\x02}" + b")R.", "calls something other than a constructor"),
        "a called dtype": (b"ctorch\nFloatStorage\n)R.", "calls something other than a con"),
        "a constructor in a name": (b"ctorch._utils\n_import_dotted_name\n.", "asks for torch._u"),
        "a persistent name": (b"\x80\x02" + opcodes("x") + b"Q.", "something other than a storage"),
        "items of a tensor": (state_dict({"x": good + b"NNs"}), "sets items of something other"),
        "nested keys": (b"}" + b")" + b"\x85" * 100_000 + b"Ns.", "keys are not strings"),
        "nested tuples": (b")" + b"\x85" * 200_000 + b".", "holds no dict"),
        "a list in itself": (b"]q\x00h\x00a.", "holds no dict"),
        "a huge memo": (b"}r\xff\xff\xff\xff0.", "has the opcode POP"),
        "a huge string": (b"B\xff\xff\xff\x7fx.", "expected 2147483647 bytes"),
        "a huge number": (b"\x8b\xff\xff\xff\x7fx.", "not enough data in stream"),
        "pairs used often": (
            b"]q\x00(" + (b"](U\x01kNe") * 5000 + b"e"
            b"ccollections\nOrderedDict\nq\x01" + b"h\x01h\x00\x85R" * 100 + b".",
            "has dicts of more than",
        ),
        "no end": (b"\x80\x02}", "pickle exhausted|holds no dict"),
        "nothing": (b"", "pickle exhausted|holds no dict"),
        "an empty stack": (b".", "its pickle is damaged"),
        "a missing memo": (b"h\x07.", "its pickle is damaged"),
        "many opcodes": (b"N" * 2**18 + b".", "more than 262144 opcodes"),
        "too long": (b"N" * (LARGEST_PICKLE + 1) + b".", "bytes; expected|opcodes"),
    }


NAMES_OF_PICKLES = list(hostile_pickles("mark"))


@both_formats
@pytest.mark.parametrize("name", NAMES_OF_PICKLES)
def test_a_hostile_pickle_is_refused_and_not_run(name, legacy, tmp_path):
    mark = tmp_path / "mark"
    pickled, message = hostile_pickles(mark)[name]
    values = {"0": np.ones(3, np.float32)}
    (tmp_path / "weights.pth").write_bytes(written(pickled, values, legacy=legacy))
    with pytest.raises(UserError, match=rf"weights.pth cannot be read as weights \(.*({message})"):
        read_tensors(tmp_path / "weights.pth")
    assert not mark.exists()


@both_formats
@pytest.mark.parametrize(
    ("offset", "shape", "strides", "message"),
    [
        (0, (7,), (1,), "up to value 7 of a storage of 6"),
        (5, (2,), (1,), "up to value 7 of a storage of 6"),
        (0, (2,), (6,), "up to value 7 of a storage of 6"),
        (6, (), (), "up to value 7 of a storage of 6"),
        (-1, (2,), (1,), "a tensor without a storage"),
        (True, (2,), (1,), "a tensor without a storage"),
        (0, (-1,), (1,), "shape and strides do not fit"),
        (5, (2,), (-1,), "shape and strides do not fit"),
        (0, (2, 2), (1,), "shape and strides do not fit"),
        (0, (1.0,), (1,), "shape and strides do not fit"),
        (0, (1,) * 33, (1,) * 33, "shape and strides do not fit"),
        (0, (2**62, 2**62), (0, 0), "bytes; expected 1048576 at most"),
        (0, (2**18 + 1,), (0,), "take 1048580 bytes; expected 1048576 at most"),
        (0, (0, 2**62, 2**62), (1, 1, 1), "too big"),
    ],
)
def test_tensors_outside_of_their_storage_are_refused(
    legacy, offset, shape, strides, message, tmp_path
):
    content = one_tensor(offset, shape, strides, legacy=legacy)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "weights.pth", content)


@both_formats
@pytest.mark.parametrize("size", [5, 7, 2**18 + 1, 2**62])
def test_storages_of_another_size_are_refused(legacy, size, tmp_path):
    content = one_tensor(0, (2,), (1,), size=size, legacy=legacy)
    with pytest.raises(ValueError, match=r"storage 0 has|data/0 has 24|bytes; expected 1048576 at"):
        read(tmp_path / "weights.pth", content)


@both_formats
def test_a_storage_with_two_types_is_refused(legacy, tmp_path):
    two = {
        dtype: tensor(storage(dtype, "0", 6, legacy=legacy), 0, (6,), (1,))
        for dtype in ("float32", "int32")
    }
    content = written(state_dict(two), {"0": np.zeros(6, np.int32)}, legacy=legacy)
    with pytest.raises(ValueError, match="storage 0 has two sizes or types"):
        read(tmp_path / "weights.pth", content)


@both_formats
def test_a_storage_that_is_missing_is_named(legacy, tmp_path):
    pickled = state_dict({"x": plain_tensor("0", np.ones(3, np.float32), legacy=legacy)})
    with pytest.raises(ValueError, match=r"it has no (storage|data/)"):
        read(tmp_path / "weights.pth", written(pickled, {}, legacy=legacy))


@both_formats
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.999])
def test_a_truncated_file_is_refused(legacy, keep, tmp_path):
    content = torch_file(TENSORS, legacy=legacy)
    (tmp_path / "weights.pth").write_bytes(content[: int(keep * len(content))])
    with pytest.raises(UserError, match=r"weights.pth cannot be read as weights"):
        read_tensors(tmp_path / "weights.pth")


@both_formats
def test_a_truncated_file_takes_no_memory(legacy, tmp_path):
    """The values that a header announces are not there, so nothing is allocated for them."""
    import tracemalloc

    stored = storage("float32", "0", 2**28, legacy=legacy)
    pickled = state_dict({"x": tensor(stored, 0, (2,), (1,))})
    values = np.arange(6, dtype=np.float32)
    content = written(pickled, {"0": values}, legacy=legacy)
    if legacy:
        content = content.replace(struct.pack("<q", 6) + values.tobytes(), struct.pack("<q", 2**28))
    else:
        content = content.replace(struct.pack("<II", 24, 24), struct.pack("<II", 2**30, 2**30))
    tracemalloc.start()
    with pytest.raises(ValueError, match="truncated"):
        read(tmp_path / "weights.pth", content, largest=2**30 + 2**20)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"epoch": 3}, "epoch is not a tensor; save the state dict of the model alone"),
        ({"state_dict": {}}, "state_dict is not a tensor; save the state dict of the model"),
        ([], "holds no dict; save the state dict"),
        ({3: 4}, "keys are not strings"),
    ],
)
def test_what_is_no_state_dict_is_refused(value, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "weights.pth", archive(pickle.dumps(value, 2), {}))


def changed_archive(change):
    """Return a valid archive with its members changed."""
    with zipfile.ZipFile(io.BytesIO(torch_file(TENSORS, legacy=False))) as source:
        members = {name: source.read(name) for name in source.namelist()}
    change(members)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        for name, content in members.items():
            target.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update({"weights/byteorder": b"big"}), "written on a big-endian machine"),
        (lambda m: m.pop("weights/data.pkl"), "has no data.pkl"),
        (lambda m: m.update({"weights/more": bytes(LARGEST)}), "expected 1048576 at most"),
    ],
)
def test_archives_that_are_not_of_torch_are_refused(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "weights.pth", changed_archive(change))


def test_an_archive_without_a_byte_order_is_little_endian(tmp_path):
    content = changed_archive(lambda members: members.pop("weights/byteorder"))
    assert_same_bits(read(tmp_path / "weights.pth", content), TENSORS)


def test_a_member_that_is_there_twice_is_refused(tmp_path):
    content = changed_archive(lambda members: members.update({"weights/data/O": b""}))
    content = content.replace(b"weights/data/O", b"weights/data/0")
    with pytest.raises(ValueError, match="one of them twice"):
        read(tmp_path / "weights.pth", content)


def test_a_bomb_is_refused_by_what_it_announces(tmp_path):
    content = archive(b"", {"0": bytes(LARGEST + 1)}, method=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="bytes; expected 1048576 at most"):
        read(tmp_path / "weights.pth", content)


def test_a_sequence_of_a_big_endian_machine_is_refused(tmp_path):
    content = torch_file(TENSORS, legacy=True).replace(
        b"little_endianq\x02\x88", b"little_endianq\x02\x89"
    )
    with pytest.raises(ValueError, match="not written on a little-endian machine"):
        read(tmp_path / "weights.pth", content)


WITHOUT_TORCH = """
import sys
from pathlib import Path
import numpy as np
sys.modules["torch"] = None
from lmf_jax.models.torch_file import read_state_dict
for path in map(Path, sys.argv[1:]):
    with open(path.with_suffix(".bin"), "wb") as file:
        for name, array in read_state_dict(path, largest=2**30).items():
            file.write(f"{name} {array.shape} {array.dtype}".encode() + array.tobytes())
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "densenet121", "efficientnet_v2_s"])
def test_files_of_torchvision_are_read_in_a_process_without_torch(name, tmp_path):
    torch = pytest.importorskip("torch", reason="writes a .pth, and torch is not installed")
    with warnings.catch_warnings():
        # torchvision says so where its image files do not match the installed torch.
        warnings.filterwarnings("ignore", "Failed to load image Python extension")
        models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    weights = getattr(models, name)(weights=None).state_dict()
    paths = [tmp_path / "archive.pth", tmp_path / "sequence.pth"]
    torch.save(weights, paths[0])
    torch.save(weights, paths[1], _use_new_zipfile_serialization=False)
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *paths], check=True)
    for path in paths:
        expected = b"".join(
            f"{key} {tuple(value.shape)} {value.numpy().dtype}".encode() + value.numpy().tobytes()
            for key, value in torch.load(path, weights_only=True).items()
        )
        assert path.with_suffix(".bin").read_bytes() == expected
