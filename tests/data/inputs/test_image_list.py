"""A list of images to predict: paths, metadata, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from data.inputs.image_files import InferenceImages, given_images, image_files
from lmf_jax.config import ImageSpec
from lmf_jax.errors import UserError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(3):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(tmp_path / "images" / f"{number}.png")
    return tmp_path


def write(folder, *lines):
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder / "list.csv"


def test_files_and_metadata_come_in_the_order_of_the_list(folder):
    lines = ["path,age,label,site", "images/2.png,80.0,,hand", f"{folder}/images/0.png,nan,x,"]
    path = write(folder, *lines)
    files, metadata = given_images([path])
    assert files == [folder / "images/2.png", folder / "images/0.png"] == image_files(path)
    assert {name: values.tolist() for name, values in metadata.items()} == {
        "age": ["80", ""],
        "site": ["hand", ""],
    }


def test_lists_folders_and_files_are_joined(folder):
    path = write(folder, "path,age", "images/2.png,80")
    files, metadata = given_images([folder / "images/1.png", path, folder / "images"])
    assert [file.name for file in files] == ["1.png", "2.png", "0.png", "1.png", "2.png"]
    assert metadata["age"].tolist() == ["", "80", "", "", ""]


REFUSED = {
    "no path": (["image,age", "images/0.png,3"], "lacks the column path"),
    "no image": (["path,age"], "lists no image; expected a line for each"),
    "twice": (["path", "images/0.png", "images/0.png"], "lists images/0.png twice"),
    "out of the folder": (["path", "../0.png"], r"lists '../0.png'; expected a path below"),
    "absolute": (["path", "/etc/passwd"], "lists '/etc/passwd'; expected a path below the folder"),
    "nothing": (["path,age", ",3"], "lists ''; expected a path below the folder"),
    "fields": (["path,age", "images/0.png"], "does not have the 2 fields of the header"),
}


@pytest.mark.parametrize(("lines", "message"), REFUSED.values(), ids=list(REFUSED))
def test_a_list_that_contradicts_itself_is_refused(lines, message, folder):
    with pytest.raises(UserError, match=message):
        given_images([write(folder, *lines)])


def test_a_batch_has_the_metadata_of_its_images(folder):
    files = image_files(folder / "images")
    (folder / "images/1.png").write_bytes(b"torn")
    features = np.arange(6, dtype=np.float32).reshape(3, 2)
    images = InferenceImages(
        files, ImageSpec(4, 4), 2, metadata=features, metadata_note="metadata unknown"
    )
    first, second = images
    np.testing.assert_array_equal(first["metadata"], features[:2])
    np.testing.assert_array_equal(second["metadata"], [[4, 5], [0, 0]])
    assert second["mask"].tolist() == [True, False]
    assert images.remarks() == ["metadata unknown"]
    assert "metadata" not in next(iter(InferenceImages(files, ImageSpec(4, 4), 2)))
