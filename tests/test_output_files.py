"""Names of output files are unique on every file system, and never those of an input."""

import os
import unicodedata

import pytest

from lmf_jax.errors import UserError
from lmf_jax.output_files import check_outputs, file_name, plan_outputs, unique_names


def test_a_name_that_fits_is_kept():
    assert unique_names(["a", "b.c", "ü"], ".nii.gz") == ["a.nii.gz", "b.c.nii.gz", "ü.nii.gz"]
    assert file_name("x" * 251, ".png") == "x" * 251 + ".png"


@pytest.mark.parametrize("character", ["x", "é", "漢", "🫁", "\udcff"])
def test_long_names_are_shortened_to_different_ones(character):
    stems = [character * 250 + end for end in "ab"]
    names = unique_names(stems, "-class.png")
    assert len(set(names)) == 2
    assert all(len(os.fsencode(name)) <= 255 and name.endswith("-class.png") for name in names)
    assert all(name.startswith(character * 50) for name in names) or character == "\udcff"


@pytest.mark.parametrize(
    "stems",
    [
        ["A", "a"],
        ["x-b-c", "x-b-c"],
        ["x-b/c", "x-b-c"],
        ["straße", "STRASSE"],
        [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")],
        ["a", "A-2", "A"],
        ["x" * 250, "X" * 250],
    ],
)
def test_names_that_a_disk_takes_for_the_same_are_numbered(stems):
    names = unique_names(stems, ".png")
    seen = {unicodedata.normalize("NFC", name).casefold() for name in names}
    assert len(seen) == len(stems)
    assert names[0] == stems[0].replace("/", "-") + ".png"


@pytest.fixture
def image(tmp_path):
    (tmp_path / "images").mkdir()
    path = tmp_path / "images" / "x.png"
    path.write_bytes(b"image")
    return path


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["same", "link to the folder", "link", "hard link", "dotted"])
def test_an_input_is_never_an_output(kind, overwrite, image, tmp_path):
    folder = tmp_path / "out"
    if kind == "same":
        folder = image.parent
    elif kind == "dotted":
        folder = image.parent / ".." / "images"
    elif kind == "link to the folder":
        folder.symlink_to(image.parent)
    else:
        folder.mkdir()
        link = os.symlink if kind == "link" else os.link
        link(image, folder / "x.png")
    with pytest.raises(UserError, match=r"The input .*x\.png.* would be replaced; give another"):
        plan_outputs(["x"], ".png", folder, inputs=[image], overwrite=overwrite)


def test_the_link_that_is_read_is_no_output(image, tmp_path):
    link = tmp_path / "x.png"
    link.symlink_to(image)
    with pytest.raises(UserError, match="would be replaced"):
        check_outputs([image], inputs=[link], overwrite=True)


def test_existing_files_are_replaced_on_request(tmp_path):
    stems = [str(number) for number in range(6)]
    for stem in stems[:5]:
        (tmp_path / f"{stem}.png").write_bytes(b"earlier")
    with pytest.raises(UserError, match=r"5 of 6 files to write exist \(.*0.png, .* and 2 more\)"):
        plan_outputs(stems, ".png", tmp_path, inputs=[])
    paths = plan_outputs(stems, ".png", tmp_path, inputs=[], overwrite=True)
    assert [path.name for path in paths] == [f"{stem}.png" for stem in stems]


def test_a_broken_link_and_a_folder_exist_too(tmp_path):
    (tmp_path / "link.png").symlink_to(tmp_path / "none")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match="exists already; give another --output"):
        plan_outputs(["link"], ".png", tmp_path, inputs=[])
    with pytest.raises(UserError, match="is a folder"):
        plan_outputs(["folder"], ".png", tmp_path, inputs=[], overwrite=True)


def test_nothing_in_the_way_is_nothing_said(tmp_path):
    assert plan_outputs([], ".png", tmp_path, inputs=[]) == []
    missing = tmp_path / "none" / "x.png"
    check_outputs([missing], inputs=[tmp_path / "none.png"], overwrite=False)
