"""MedMNIST files: what is read of them, how little is held, and all that can be wrong."""

import io
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data.datasets.medmnist.labels import (
    CLASSES,
    EXPECTED_COUNTS,
    encoded_images,
    flag_of,
    read_labels,
)
from lmf_jax.errors import UserError

DUMMY = Path(__file__).parents[3] / "data/datasets/medmnist" / "dummy_data" / "dermamnist_28.npz"

Arrays = dict[str, np.ndarray | bytes]


def arrays_of(counts=(5, 2, 3), size=(6, 4), dtype=np.uint8, columns=(1,)) -> Arrays:
    random = np.random.default_rng(1)
    arrays: Arrays = {}
    for part, count in zip(("train", "val", "test"), counts, strict=True):
        arrays[f"{part}_images"] = random.integers(0, 256, (count, *size), np.uint8)
        arrays[f"{part}_labels"] = random.integers(0, 3, (count, *columns)).astype(dtype)
    arrays["test_labels"][0] = 3
    return arrays


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=True)
    return file.getvalue()


def header(text: str, version: bytes = b"\x01\x00") -> bytes:
    length = struct.pack("<H" if version == b"\x01\x00" else "<I", len(text))
    return b"\x93NUMPY" + version + length + text.encode()


def header_of(shape: str, descr: str = "'|u1'") -> bytes:
    return header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n")


def npz(arrays: Arrays, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, array in arrays.items():
            content = array if isinstance(array, bytes) else npy(array)
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def read(path: Path):
    """Everything that a caller gets."""
    labels = read_labels(path)
    columns = (labels.ids, labels.labels, labels.parts)
    return labels.class_names, *(c.tolist() for c in columns), list(encoded_images(path))


def pixels_of(image: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(image)) as file:
        return np.asarray(file)


def test_the_dummy_file_is_read_as_it_was_made() -> None:
    labels = read_labels(DUMMY)
    assert labels.class_names == CLASSES["dermamnist"]
    assert labels.labels.tolist() == [*range(7), *range(7), *range(7), *range(7)]
    assert labels.ids.tolist()[13:15] == ["train-0000013", "validation-0000000"]
    assert labels.ids.tolist()[-1] == "test-0000006"
    assert labels.parts.tolist() == ["train"] * 14 + ["validation"] * 7 + ["test"] * 7
    assert labels.groups is None
    with np.load(DUMMY) as expected:
        pixels = [expected[f"{part}_images"] for part in ("train", "val", "test")]
    read_pixels = [pixels_of(image) for image in encoded_images(DUMMY)]
    np.testing.assert_array_equal(read_pixels, np.concatenate(pixels))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, ">i2"])
@pytest.mark.parametrize("columns", [(), (1,)])
@pytest.mark.parametrize("size", [(6, 4), (6, 4, 3), (1, 1), (3, 3, 3)])
def test_every_layout_of_a_file_is_read(tmp_path: Path, size, columns, dtype, compression) -> None:
    arrays = arrays_of(size=size, columns=columns, dtype=dtype)
    path = write(tmp_path / "a.npz", npz({"weights": b"no array"} | arrays, compression))
    labels = read_labels(path)
    parts = ("train", "val", "test")
    expected = np.concatenate([arrays[f"{part}_labels"].ravel() for part in parts])
    assert labels.labels.dtype == np.int32
    np.testing.assert_array_equal(labels.labels, expected)
    images = [pixels_of(image) for image in encoded_images(path)]
    np.testing.assert_array_equal(images, np.concatenate([arrays[f"{p}_images"] for p in parts]))


def test_a_header_of_python_2_is_read_in_silence(tmp_path: Path, recwarn) -> None:
    old = header_of("(2L, 6L, 4L)") + bytes(48)
    path = write(tmp_path / "a.npz", npz(arrays_of() | {"val_images": old}))
    assert len(list(encoded_images(path))) == 10
    assert not recwarn.list


def test_an_unknown_flag_has_as_many_classes_as_its_largest_label_in_any_part(tmp_path) -> None:
    path = write(tmp_path / "own_64.npz", npz(arrays_of()))
    assert read_labels(path).class_names == ("0", "1", "2", "3")


def test_a_class_of_a_known_flag_may_have_no_image(tmp_path: Path) -> None:
    path = write(tmp_path / "bloodmnist.npz", npz(arrays_of()))
    assert len(read_labels(path).class_names) == 8


@pytest.mark.parametrize("name", ["octmnist.npz", "octmnist_224.npz", "octmnist_64_copy.npz"])
def test_the_flag_is_the_beginning_of_the_name(name: str) -> None:
    assert flag_of(Path("some_where") / name) == "octmnist"


def test_every_known_flag_has_its_official_counts() -> None:
    assert CLASSES.keys() == EXPECTED_COUNTS.keys()
    assert sum(EXPECTED_COUNTS["dermamnist"].values()) == 10015


def test_an_image_is_a_line_of_text_and_its_pixels(tmp_path: Path) -> None:
    arrays = arrays_of(size=(2, 3, 3))
    image = next(encoded_images(write(tmp_path / "a.npz", npz(arrays))))
    assert image == b"P6 3 2 255\n" + np.asarray(arrays["train_images"])[0].tobytes()


def test_images_are_not_held_in_memory(tmp_path: Path) -> None:
    arrays = arrays_of() | {
        "train_images": np.zeros((400, 128, 128, 3), np.uint8),
        "train_labels": np.zeros(400, np.uint8),
        "val_images": np.zeros((2, 128, 128, 3), np.uint8),
        "test_images": np.zeros((3, 128, 128, 3), np.uint8),
    }
    path = write(tmp_path / "large.npz", npz(arrays))
    tracemalloc.start()
    try:
        read_labels(path)
        count = sum(1 for _ in encoded_images(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 405
    assert peak < 2**20  # of 19 MiB


class Evil:
    """Writes a file if it is ever unpickled."""

    def __reduce__(self):
        return open, ("unpickled", "w")


def changed(**arrays: np.ndarray | bytes) -> bytes:
    return npz(arrays_of() | arrays)


def all_images(array: np.ndarray) -> bytes:
    """Write a file with these images in every part, and a label for each."""
    parts = ("train", "val", "test")
    images = {f"{part}_images": array for part in parts}
    return npz(images | {f"{part}_labels": np.zeros(len(array), np.uint8) for part in parts})


# Where a directory entry says it; section 4.3.12 of PKWARE's APPNOTE.
FLAGS_OF_ENTRY, COMPRESSION, CRC, PACKED_SIZE, SIZE, OFFSET = 8, 10, 16, 20, 24, 42


def without(name: str) -> bytes:
    return npz({other: array for other, array in arrays_of().items() if other != name})


def with_entry(name: str, offset: int, form: str, value: int, content=None) -> bytes:
    """Change an entry of a member in the central directory of a file."""
    content = npz(arrays_of()) if content is None else content
    start = content.rindex(b"PK\x01\x02", 0, content.rindex(f"{name}.npy".encode())) + offset
    value_bytes = struct.pack(form, value)
    return content[:start] + value_bytes + content[start + len(value_bytes) :]


def smaller(name: str, size: int) -> bytes:
    """Write a file whose directory announces a shorter member, with a valid checksum."""
    checksum = zlib.crc32(npy(arrays_of()[name])[:size])
    return with_entry(name, SIZE, "<I", size, with_entry(name, CRC, "<I", checksum))


def twice(name: str) -> bytes:
    other = name.replace("train", "trail")
    arrays = arrays_of()
    return npz(arrays | {other: arrays[name]}).replace(other.encode(), name.encode())


def damaged_image() -> bytes:
    content = bytearray(npz(arrays_of(), zipfile.ZIP_STORED))
    content[content.index(b"test_images") + 200] ^= 1
    return bytes(content)


def bomb() -> bytes:
    """Write a member of 64 MiB for which directory and header announce five images."""
    honest = npy(arrays_of()["train_images"])
    content = changed(train_images=honest + bytes(2**26))
    return with_entry("train_images", SIZE, "<I", len(honest), content)


WRONG = {
    # no archive
    "no file": (None, "is not a file"),
    "an empty file": (b"", "not a zip file"),
    "a text": (b"<html>Not found</html>" * 99, "not a zip file"),
    "an array alone": (npy(np.zeros((3, 4, 4), np.uint8)), "not a zip file"),
    "half a download": (npz(arrays_of())[:-600], "not a zip file"),
    "a part of a download": (npz(arrays_of())[300:], "cannot be read"),
    # members
    "an empty archive": (npz({}), "has no train_images"),
    "no validation labels": (without("val_labels"), "has no val_labels"),
    "no test images": (without("test_images"), "has no test_images"),
    "images twice": (twice("train_images"), "holds train_images 2 times"),
    "labels twice": (twice("train_labels"), "holds train_labels 2 times"),
    "an encrypted member": (with_entry("val_images", FLAGS_OF_ENTRY, "<H", 1), "encrypted"),
    "bzip2": (npz(arrays_of(), zipfile.ZIP_BZIP2), "in compression 12 of zip"),
    "LZMA": (npz(arrays_of(), zipfile.ZIP_LZMA), "in compression 14 of zip"),
    "a wrong compression": (with_entry("val_labels", COMPRESSION, "<H", 0), "val_labels cannot be"),
    "a wrong checksum of labels": (with_entry("val_labels", CRC, "<I", 7), "Bad CRC-32"),
    "a wrong checksum of images": (with_entry("val_images", CRC, "<I", 7), "Bad CRC-32"),
    "a changed pixel": (damaged_image(), "test_images cannot be read .*Bad CRC-32"),
    "a smaller size": (smaller("test_images", 150), "the archive 150 bytes"),
    "a smaller size alone": (with_entry("test_images", SIZE, "<I", 150), "Bad CRC-32"),
    "a larger size": (with_entry("test_images", SIZE, "<I", 2**31), f"the archive {2**31} bytes"),
    "a smaller packed size": (with_entry("val_images", PACKED_SIZE, "<I", 90), "val_images"),
    "a member beyond the end": (with_entry("val_images", OFFSET, "<I", 2**30), "val_images cannot"),
    "a bomb": (bomb(), "train_images cannot be read .*Bad CRC-32"),
    # headers
    "no header": (changed(val_images=b"P5 4 6 255"), "val_images cannot be read"),
    "an empty member": (changed(val_images=b""), "val_images cannot be read"),
    "a header of code": (changed(val_images=header("f()")), "val_images .*<ast.Call object>"),
    "a number with a letter": (changed(val_images=header("{1if 2else 3}")), "val_images cannot"),
    "deep brackets": (changed(val_images=header("(" * 9000)), "val_images cannot be read"),
    "an open header": (changed(val_images=b"\x93NUMPY\x01\x00\xff\xff{"), "val_images cannot be"),
    "a header of 4 GiB": (
        changed(val_images=b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"),
        r"val_images cannot be read \(version \(2, 0\)",
    ),
    "fewer images than announced": (changed(val_images=header_of("(9, 6, 4)") + b"1" * 48), "says"),
    "more images than announced": (changed(val_images=header_of("(1, 6, 4)") + b"1" * 48), "says"),
    "a negative shape": (changed(val_images=header_of("(-2, -6, 4)") + b"1" * 48), "says"),
    "an endless shape": (changed(val_images=header_of(f"({10**30}, 6, 4)")), "says"),
    # images
    "pickled images": (changed(train_images=np.array([Evil()] * 5)), "train_images as pickled"),
    "pickled fields": (
        changed(val_images=header_of("(1,)", "[('a', '|O')]") + b"1" * 8),
        "val_images as pickled",
    ),
    "floats": (changed(val_images=np.zeros((2, 6, 4))), "val_images as float64"),
    "16 bits": (changed(val_images=np.zeros((2, 6, 4), np.uint16)), "val_images as uint16"),
    "fields": (changed(val_images=np.zeros(2, "u1,u1")), "val_images as .*expected uint8"),
    "Fortran order": (changed(val_images=np.zeros((2, 6, 4), np.uint8, "F")), "Fortran order"),
    "volumes": (all_images(np.zeros((2, 5, 5, 5), np.uint8)), "holds volumes"),
    "RGB volumes": (all_images(np.zeros((2, 5, 5, 5, 3), np.uint8)), "holds volumes"),
    "an alpha channel": (all_images(np.zeros((2, 5, 5, 4), np.uint8)), r"of \(2, 5, 5, 4\); exp"),
    "rows": (all_images(np.zeros((2, 5), np.uint8)), r"uint8 of \(2, 5\); expected"),
    "a single number": (changed(val_images=np.array(3, np.uint8)), r"uint8 of \(\); expected"),
    "no images": (all_images(np.zeros((0, 5, 5), np.uint8)), "holds 0 images in train_images"),
    "an empty part": (
        changed(val_images=np.zeros((0, 6, 4), np.uint8), val_labels=np.zeros((0, 1), np.uint8)),
        "holds 0 images in val_images",
    ),
    "too many images": (
        changed(val_images=header_of("(10000001, 1, 1)") + bytes(10**7 + 1)),
        "holds 10000001 images in val_images; expected 1 to 10000000",
    ),
    "no width": (all_images(np.zeros((2, 5, 0), np.uint8)), "5x0 pixels"),
    "a huge side": (all_images(np.zeros((2, 1, 4097), np.uint8)), "1x4097 pixels"),
    "two sizes": (changed(val_images=np.zeros((2, 5, 4), np.uint8)), "different sizes"),
    "gray and RGB": (changed(val_images=np.zeros((2, 6, 4, 3), np.uint8)), "different sizes"),
    # labels
    "several labels": (changed(train_labels=np.eye(5, 14, dtype=np.uint8)), "image 14 labels"),
    "float labels": (changed(val_labels=np.zeros(2)), "val_labels as float64"),
    "truth values": (changed(val_labels=np.zeros(2, bool)), "val_labels as bool"),
    "words": (changed(val_labels=np.array(["a", "b"])), "val_labels as <U1"),
    "pickled labels": (changed(val_labels=np.array([Evil()] * 2)), "val_labels as pickled"),
    "too few labels": (changed(val_labels=np.zeros(1, np.uint8)), r"\(1,\); expected .*\(2, 1\)"),
    "too many labels": (changed(val_labels=np.zeros((3, 1), np.uint8)), r"of \(3, 1\); expected"),
    "labels without a column": (changed(val_labels=np.zeros((2, 0), np.uint8)), r"of \(2, 0\)"),
    "a negative label": (changed(val_labels=np.array([0, -1])), "the class -1 in val_labels"),
    "a class of no name": (changed(val_labels=np.array([0, 7])), "the class 7 in val_labels"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_file_is_one_clear_error(tmp_path, monkeypatch, content, message) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "dermamnist_28.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read(path)
    assert str(error.value).startswith(str(path))
    assert str(error.value).endswith(".")
    assert str(error.value).isprintable()
    assert not (tmp_path / "unpickled").exists()


def test_images_are_checked_by_who_reads_no_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "own.npz", changed(val_images=np.zeros((2, 5, 4), np.uint8)))
    with pytest.raises(UserError, match="different sizes"):
        next(encoded_images(path))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a file"):
        read_labels(tmp_path)


def test_an_unknown_flag_has_at_most_a_thousand_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "own.npz", changed(val_labels=np.array([0, 2**40])))
    with pytest.raises(UserError, match=f"the class {2**40} in val_labels; expected 0 to 999"):
        read_labels(path)


SMALL = {method: npz(arrays_of(), method) for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)}

mutations = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), st.floats(0, 1, exclude_max=True), st.integers(1, 255)),
        st.tuples(st.just("insert"), st.floats(0, 1), st.binary(min_size=1, max_size=40)),
        st.tuples(st.just("truncate"), st.floats(0, 1), st.none()),
    ),
    min_size=1,
    max_size=3,
)


def mutated(content: bytes, changes) -> bytes:
    for kind, where, what in changes:
        place = int(where * len(content))
        head, tail = content[:place], content[place:]
        if kind == "flip" and tail:
            content = head + bytes([tail[0] ^ what]) + tail[1:]
        elif kind == "insert":
            content = head + what + tail
        elif kind == "truncate":
            content = head
    return content


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory):
    """Return a file to overwrite, its contents, and the memory in use."""
    path = tmp_path_factory.mktemp("fuzzed") / "own.npz"
    expected = read(write(path, SMALL[zipfile.ZIP_STORED]))
    tracemalloc.start()
    yield path, expected
    tracemalloc.stop()


@settings(max_examples=200, deadline=None)
@given(method=st.sampled_from(list(SMALL)), changes=mutations)
def test_changed_bytes_are_read_as_before_or_refused(fuzzed, method, changes) -> None:
    path, expected = fuzzed
    write(path, mutated(SMALL[method], changes))
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    try:
        result = read(path)
    except UserError as error:
        assert str(error).isprintable()
    else:
        assert result == expected
    _, peak = tracemalloc.get_traced_memory()
    assert peak - before < 2**20
