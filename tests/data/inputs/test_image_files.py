import os

import numpy as np
import pytest
from PIL import Image

from data.inputs.image_files import InferenceImages, image_files, skipped_lines
from lmf_jax.config import ImageSpec
from lmf_jax.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """Five images, of which the third is none, and a file that is no image."""
    for number in range(5):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"torn")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_the_images_of_a_folder_come_by_name(folder):
    assert [file.name for file in image_files(folder)] == [f"{n}.png" for n in range(5)]


def test_a_file_is_itself(folder):
    assert image_files(folder / "1.png") == [folder / "1.png"]


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(UserError, match=r"none does not exist; expected an image or a folder"):
        image_files(tmp_path / "none")
    with pytest.raises(UserError, match="There is no image in"):
        image_files(tmp_path)


def test_what_is_passed_over_is_named(folder):
    for name in ("a", "b", ".hidden", "out"):
        (folder / name).mkdir()
    for number in range(30):
        (folder / f"{number}.nii").write_bytes(b"")
    assert skipped_lines(folder / "1.png", folder / "out") == []
    lines = [line.replace(str(folder), "F") for line in skipped_lines(folder, folder / "out")]
    advice = "images have to be JPEG, PNG, TIFF, WebP, BMP, GIF or DICOM"
    assert lines == [
        f"30 .nii files in F are not used: 0.nii, 1.nii, 10.nii and 27 more; {advice}",
        f"1 .txt file in F is not used: notes.txt; {advice}",
        "2 folders in F are not used: a, b; name a folder to use its images",
    ]


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    (tmp_path / "a.nii").write_bytes(b"")
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match=r"There is no image in .* \(it contains a.nii, b\);"):
        image_files(tmp_path)


def test_every_image_comes_once_under_its_place_and_a_broken_one_is_masked(folder):
    images = InferenceImages(image_files(folder), ImageSpec(4, 4), batch_size=2)
    batches = list(images)
    assert [batch["image"].shape for batch in batches] == [(2, 4, 4, 3)] * 3
    label, mask, image = (
        np.concatenate([batch[name] for batch in batches]) for name in ("label", "mask", "image")
    )
    np.testing.assert_array_equal(label[mask], [0, 1, 3, 4])
    np.testing.assert_array_equal(image[mask, 0, 0, 0], [0, 1, 3, 4])
    assert images.broken == {2: "no known format"}


def test_what_is_no_file_is_masked_and_waited_for_by_nobody(folder):
    os.mkfifo(folder / "5.png")
    images = InferenceImages(image_files(folder), ImageSpec(4, 4), batch_size=6)
    (batch,) = images
    assert batch["mask"].tolist() == [True, True, False, True, True, False]
    assert images.broken[5] == "it is not a regular file"
