"""A dataset of DICOM files is prepared without their headers, and its patients stay together."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from data.builders.image_folder import images_in, is_image, stem_of
from data.formats.dicom.image import decode_dicom
from data.inputs.image_files import InferenceImages, image_files
from data.prepared.prepare import open_dataset, prepare
from lmf_jax.config import ImageSpec
from lmf_jax.errors import UserError
from tests.helpers.dicom_files import SENTINEL, dicom_dataset, encode, write_dicom


@pytest.fixture
def folder(tmp_path):
    """Two classes of eight images; images 0 and 1, 2 and 3, ... are of one patient."""
    rng = np.random.default_rng(0)
    for number in range(16):
        pixels = rng.integers(0, 4096, (9, 11)).astype(np.uint16)
        name = ("nodule", "normal")[number // 2 % 2]
        burned_in = "YES" if number in (3, 8) else "NO"
        suffix = (".dcm", ".DICOM", "")[number % 3]
        write_dicom(
            tmp_path / "raw" / name / f"1.2.{number}{suffix}",
            pixels,
            PatientID=f"{SENTINEL}{number // 2}",
            SOPInstanceUID=f"1.2.3.{number}",
            BurnedInAnnotation=burned_in,
        )
    return tmp_path / "raw"


def test_names_say_what_may_be_an_image(tmp_path):
    pixels = np.zeros((2, 2), np.uint8)
    for name in ("a.dcm", "IM0001", "1.2.840.7", "DICOMDIR", ".hidden", "a.txt"):
        write_dicom(tmp_path / name, pixels)
    (tmp_path / "README").write_text("no image")
    (tmp_path / "folder").mkdir()
    assert images_in(tmp_path) == ["1.2.840.7", "IM0001", "a.dcm"]
    assert not is_image(tmp_path / "folder")
    assert [stem_of(tmp_path / name) for name in images_in(tmp_path)] == [
        "1.2.840.7",
        "IM0001",
        "a",
    ]


def test_renderings_are_stored_and_no_header(folder, tmp_path):
    prepared = prepare(f"folder:{folder}", None, tmp_path / "data")
    assert len(prepared.ids) == 16
    for row, name in enumerate(prepared.ids.tolist()):
        stored = prepared.source[row]
        assert stored.startswith(b"\x89PNG") and SENTINEL.encode() not in stored
        expected = decode_dicom((folder / name).read_bytes())
        np.testing.assert_array_equal(Image.open(io.BytesIO(stored)), expected)
    for path in (tmp_path / "data").rglob("*"):
        assert SENTINEL not in str(path)
        assert not path.is_file() or SENTINEL.encode() not in path.read_bytes()
    assert prepared.intensities is None
    assert prepared.dicom.lines == [
        "16 DICOM images were rendered to 8 bits, and no header was stored; 8 patients were found "
        "by Patient ID, and hashed",
        "warning: 2 of 16 DICOM images declare burned-in annotation (0028,0301), which may show "
        "names of patients in reports and figures",
    ]


def test_images_of_a_patient_are_a_group_that_depends_on_the_files_alone(folder, tmp_path):
    prepared = prepare(f"folder:{folder}", None, tmp_path / "data")
    numbers = [int(stem_of(folder / name).split(".")[2]) // 2 for name in prepared.ids.tolist()]
    groups = prepared.groups.tolist()
    assert len(set(groups)) == 8 == len(set(zip(numbers, groups, strict=True)))
    again = prepare(f"folder:{folder}", None, tmp_path / "again")
    assert again.groups.tolist() == groups and again.fingerprint == prepared.fingerprint
    (folder / "nodule" / "1.2.0.dcm").unlink()  # another dataset: another salt
    other = prepare(f"folder:{folder}", None, tmp_path / "other")
    assert not set(other.groups.tolist()) & set(groups)


def test_given_groups_are_kept(folder, tmp_path):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [
        f"{path.relative_to(folder)},{path.parent.name},p{i % 7}" for i, path in enumerate(files)
    ]
    (folder / "list.csv").write_text("\n".join(["path,label,group", *lines]))
    prepared = open_dataset(f"manifest:{folder / 'list.csv'}", tmp_path / "data")
    assert set(prepared.groups.tolist()) == {f"p{i}" for i in range(7)}
    assert prepared.dicom.patients == 0


def test_one_patient_id_for_all_files_is_none(folder, tmp_path):
    for number, path in enumerate(path for path in folder.rglob("*") if path.is_file()):
        pixels = np.full((4, 4), number, np.uint8)
        pixels[0] = 9
        path.write_bytes(encode(dicom_dataset(pixels, PatientID="ANONYMOUS")))
    assert open_dataset(f"folder:{folder}", tmp_path / "data").groups is None


def test_files_without_a_patient_id_are_groups_of_their_own(folder, tmp_path):
    path = folder / "nodule" / "1.2.0.dcm"
    path.write_bytes(encode(dicom_dataset(np.eye(4, dtype=np.uint8), PatientID="")))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "nodule" / "z.png")
    prepared = open_dataset(f"folder:{folder}", tmp_path / "data")
    group_of = dict(zip(prepared.ids.tolist(), prepared.groups.tolist(), strict=True))
    assert group_of["nodule/1.2.0.dcm"] == "only nodule/1.2.0.dcm"
    assert group_of["nodule/z.png"] == "only nodule/z.png"
    assert prepared.dicom.images == 16


def test_a_broken_file_is_named_and_may_be_left_out(folder, tmp_path):
    path = folder / "nodule" / "1.2.0.dcm"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"nodule/1\.2\.0\.dcm: its pixel data have 189 bytes"):
        prepare(f"folder:{folder}", None, tmp_path / "data")
    prepared = prepare(f"folder:{folder}", None, tmp_path / "data", skip_broken=True)
    assert len(prepared.ids) == 15 and len(prepared.groups) == 15


def test_pairs_are_matched_by_whole_uids_and_masks_are_no_dicom(folder, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    images = tmp_path / "images"
    shutil.copytree(folder / "nodule", images)
    for path in images.iterdir():
        Image.fromarray(np.eye(9, 11, dtype=np.uint8)).save(masks / f"{stem_of(path)}.png")
    prepared = open_dataset(f"pairs:{images},{masks}", tmp_path / "data")
    assert len(prepared.ids) == 8 and len(set(prepared.groups.tolist())) == 4
    (masks / "1.2.0.png").unlink()
    write_dicom(masks / "1.2.0.dcm", np.eye(9, 11, dtype=np.uint8))
    with pytest.raises(UserError, match="the mask cannot be decoded, it is a DICOM file"):
        open_dataset(f"pairs:{images},{masks}", tmp_path / "data")


def test_dicom_files_are_predicted_as_they_are_prepared(folder):
    files = image_files(folder / "nodule")
    torn = folder / "nodule" / "9.dcm"
    torn.write_bytes(files[0].read_bytes()[:300])
    images = InferenceImages([*files, torn], ImageSpec(4, 4), batch_size=9)
    (batch,) = images
    assert batch["mask"].tolist() == [True] * 8 + [False]
    for image, path in zip(batch["image"], files, strict=False):
        gray = Image.fromarray(decode_dicom(path.read_bytes())).convert("RGB")
        expected = np.asarray(gray.resize((4, 4), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(image, expected)
    assert list(images.broken) == [8] and SENTINEL not in images.broken[8]
    (line,) = images.remarks()
    assert line.startswith("warning: 1 of 8 DICOM images declares burned-in annotation")
