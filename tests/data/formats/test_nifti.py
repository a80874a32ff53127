"""NIfTI files come out with the axes of the body, or are refused in one sentence."""

import gzip
import re
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest

import data.formats.nifti
from data.formats.nifti import open_nifti
from data.formats.volume_file import check_same_space
from lmf_jax.errors import UserError
from tests.helpers.volume_downloads import save_nifti

SPACING = (3.0, 2.0, 1.5)
VOLUME = np.random.default_rng(0).normal(0, 100, (5, 7, 6)).astype(np.float32)
LABELS = np.random.default_rng(1).choice([0, 1, 2, 4], (5, 7, 6)).astype(np.uint8)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "IPL", "SAR", "ASL", "PIR"])
@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_the_axes_are_those_of_the_body(orientation: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"volume.{ending}"
    save_nifti(path, VOLUME, SPACING, orientation)
    file = open_nifti(path)
    assert nibabel.aff2axcodes(nibabel.load(path).affine) == tuple(orientation)
    assert file.oriented_shape == VOLUME.shape
    np.testing.assert_allclose(file.spacing, SPACING, rtol=1e-6)
    np.testing.assert_allclose(file.affine[:3, 3], [-5, 7, 11], rtol=1e-6)
    image = file.read_image()
    assert image.dtype == np.float32 and image.flags.c_contiguous
    np.testing.assert_array_equal(image, VOLUME)


def test_a_turned_scanner_keeps_the_nearest_axes(tmp_path: Path) -> None:
    angle = np.radians(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]])
    affine = np.eye(4)
    affine[:2, :3] = turn
    affine[:3, :3] = affine[:3, :3] @ np.diag([-1.5, 2.0, 3.0])
    nibabel.save(nibabel.Nifti1Image(VOLUME.T[::-1], affine), tmp_path / "a.nii")
    file = open_nifti(tmp_path / "a.nii")
    np.testing.assert_allclose(file.spacing, SPACING, rtol=1e-6)
    np.testing.assert_array_equal(file.read_image(), VOLUME)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", ">f8", "u1"])
def test_every_type_and_byte_order_is_read(kind, dtype: str, tmp_path: Path) -> None:
    values = np.round(np.abs(VOLUME)).clip(0, 255).astype(dtype)
    header = kind.header_class(endianness=values.dtype.str[0].replace("|", "<"))
    header.set_data_dtype(dtype)
    image = kind(values.T, np.eye(4), header)
    image.to_filename(tmp_path / "a.nii")
    np.testing.assert_array_equal(open_nifti(tmp_path / "a.nii").read_image(), values)


def test_stored_integers_are_scaled_as_the_header_says(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(2, -1024)
    image.to_filename(tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[352:400] = np.arange(24, dtype="<i2").tobytes()
    content[112:120] = np.array([2, -1024], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    expected = 2.0 * np.arange(24).reshape(2, 3, 4, order="F").T - 1024
    np.testing.assert_array_equal(open_nifti(tmp_path / "a.nii").read_image(), expected)


def test_volumes_are_read_in_pieces(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(data.formats.nifti, "_CHUNK", 52)
    save_nifti(tmp_path / "a.nii.gz", VOLUME)
    save_nifti(tmp_path / "b.nii.gz", LABELS)
    np.testing.assert_array_equal(open_nifti(tmp_path / "a.nii.gz").read_image(), VOLUME)
    ids = open_nifti(tmp_path / "b.nii.gz").read_labels((0, 1, 2, 4))
    np.testing.assert_array_equal(ids, np.where(LABELS == 4, 3, LABELS))


def test_labels_become_class_ids(tmp_path: Path) -> None:
    save_nifti(tmp_path / "a.nii", LABELS.astype(np.float64), SPACING, "LPS")
    ids = open_nifti(tmp_path / "a.nii").read_labels((0, 1, 2, 4))
    assert ids.dtype == np.uint8
    np.testing.assert_array_equal(ids, np.where(LABELS == 4, 3, LABELS))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_label_that_was_rounded_counts_as_its_integer(dtype, tmp_path: Path) -> None:
    for rounding in (2e-6, -2e-6, 9e-4):
        save_nifti(tmp_path / "a.nii", LABELS.astype(dtype) + dtype(rounding))
        ids = open_nifti(tmp_path / "a.nii").read_labels((0, 1, 2, 4))
        np.testing.assert_array_equal(ids, np.where(LABELS == 4, 3, LABELS))


OTHER_LABELS = [(3, "3"), (-1, "-1"), (0.5, "0.5"), (2.002, "2.00200009"), (np.nan, "nan")]


@pytest.mark.parametrize(("label", "shown"), OTHER_LABELS)
def test_an_unknown_label_is_named(label: float, shown: str, tmp_path: Path) -> None:
    labels = LABELS.astype(np.float32)
    labels[4, 5, 3] = label
    save_nifti(tmp_path / "a.nii", labels)
    message = rf"a\.nii has the label {re.escape(shown)}; expected 0, 1, 2, 4\."
    with pytest.raises(UserError, match=message):
        open_nifti(tmp_path / "a.nii").read_labels((0, 1, 2, 4))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_value_that_is_not_finite_is_refused(value: float, tmp_path: Path) -> None:
    volume = VOLUME.astype(np.float64)
    volume[1, 2, 3] = value
    save_nifti(tmp_path / "a.nii", volume)
    with pytest.raises(UserError, match=r"a\.nii has a value that is not finite"):
        open_nifti(tmp_path / "a.nii").read_image()


def write_at(place: int, dtype: str, *values: float):
    """Return what puts numbers into the header of a file that is not compressed."""

    def change(path: Path) -> None:
        content = bytearray(path.read_bytes())
        written = np.array(values, dtype).tobytes()
        content[place : place + len(written)] = written
        path.write_bytes(content)

    return change


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def save_pixels(path: Path, *shape: int, dtype: str = "f4") -> None:
    nibabel.Nifti1Image(np.ones(shape, dtype), np.eye(4)).to_filename(path)


WRONG = {
    "missing": (Path.unlink, "a.nii is missing"),
    "empty": (lambda path: path.write_bytes(b""), "damaged or not a NIfTI file"),
    "text": (
        lambda path: path.write_text("<html>404 not found</html>" * 99),
        "it has no NIfTI header",
    ),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "damaged or not a NIfTI file"),
    "cut": (cut, "a.nii is truncated: its header claims 1192 bytes, more than 1092 bytes can hold"),
    "the header alone": (lambda path: path.write_bytes(path.read_bytes()[:200]), "damaged or no"),
    "two dimensions": (
        lambda path: save_pixels(path, 5, 6),
        "has 5 x 6 values; expected one vol",
    ),
    "a series": (lambda path: save_pixels(path, 3, 3, 3, 2), "has 3 x 3 x 3 x 2 values; expect"),
    "colors": (
        write_at(70, "<i2", 128, 24),
        r"has \w+ values; expected one real number",
    ),
    "complex": (lambda path: save_pixels(path, 3, 3, 3, dtype="c8"), "has complex64 values"),
    "terabytes": (write_at(40, "<i2", 3, 32767, 32767, 32767), "claims 32767 x 32767 x 32767 vox"),
    "more than there is": (write_at(40, "<i2", 3, 700, 700, 700), "truncated: its header claims"),
    "nothing": (write_at(40, "<i2", 3, 6, 0, 5), "has 6 x 0 x 5 values"),
    "less than nothing": (write_at(40, "<i2", 3, 6, -7, 5), "has 6 x -7 x 5 values"),
    "unknown type": (write_at(70, "<i2", 999), "damaged or not a NIfTI file"),
    "voxels elsewhere": (write_at(344, "S4", b"ni1"), "its voxels are not in the same file"),
    "voxels in the header": (write_at(108, "<f4", 3), "begin at byte 3; expected 352 to"),
    "voxels far away": (write_at(108, "<f4", 1e12), "begin at byte 999999995904"),
    "voxels nowhere": (write_at(108, "<f4", np.nan), "damaged or not a NIfTI file"),
    "no width": (
        write_at(280, "<f4", 0, 0, 0, 0),
        r"claims voxels of 0 x 2 x 3 mm; expected 0.05",
    ),
    "kilometers": (write_at(280, "<f4", 1e6), r"claims voxels of 1e\+06 x"),
    "no place": (write_at(292, "<f4", np.nan), "claims voxels of"),
    "flat": (
        write_at(280, "<f4", 1, 1, 0, 0, 1, 1.1, 0),
        "claims axes that do not span three dimensions",
    ),
}


@pytest.mark.parametrize(("damage", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_file_is_one_clear_sentence(damage, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    save_nifti(path, VOLUME, SPACING)
    open_nifti(path)
    damage(path)
    with pytest.raises(UserError, match=message) as error:
        open_nifti(path).read_image()
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_compressed_file_that_is_cut_or_changed_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    save_nifti(path, VOLUME)
    good = path.read_bytes()
    path.write_bytes(good[:-20])
    with pytest.raises(UserError, match=r"a\.nii\.gz is damaged or not a NIfTI file"):
        open_nifti(path).read_image()
    for place in (60, len(good) // 2, len(good) - 100, len(good) - 6):
        changed = bytearray(good)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(UserError, match=r"a\.nii\.gz is "):
            open_nifti(path).read_image()


def test_a_small_file_takes_little_memory(tmp_path: Path) -> None:
    """Neither one that claims much nor one that holds more than it claims is unpacked."""
    path = tmp_path / "a.nii"
    save_nifti(path, VOLUME)
    write_at(40, "<i2", 3, 800, 800, 800)(path)
    claims, holds = tmp_path / "claims.nii.gz", tmp_path / "holds.nii.gz"
    claims.write_bytes(gzip.compress(path.read_bytes()))
    save_nifti(path, VOLUME)
    holds.write_bytes(gzip.compress(path.read_bytes() + bytes(2**27)))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="truncated"):
            open_nifti(claims).read_image()
        with pytest.raises(UserError, match="it continues after its last voxel"):
            open_nifti(holds).read_image()
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_nibabel_is_asked_for_where_it_is_missing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[volumes\]'"):
        open_nifti(tmp_path / "a.nii")


def opened(path: Path, shift: float = 0.0, values: np.ndarray = VOLUME, orientation: str = "RAS"):
    save_nifti(path, values, SPACING, orientation)
    if shift:
        image = nibabel.load(path)
        image.affine[0, 3] += shift
        nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine).to_filename(path)
    return open_nifti(path)


def test_files_of_a_case_lie_at_the_same_place(tmp_path: Path) -> None:
    first = opened(tmp_path / "a.nii")
    check_same_space(first, opened(tmp_path / "b.nii", orientation="IPL"))
    check_same_space(first, opened(tmp_path / "c.nii", 0.5))
    with pytest.raises(UserError, match=r"d\.nii is up to 1 mm from a\.nii; expected the same"):
        check_same_space(first, opened(tmp_path / "d.nii", 1.0))
    with pytest.raises(UserError, match=r"e\.nii has 4 x 7 x 6 voxels and a\.nii 5 x 7 x 6"):
        check_same_space(first, opened(tmp_path / "e.nii", values=VOLUME[1:]))
