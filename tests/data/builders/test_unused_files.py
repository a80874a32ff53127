"""Files that nothing reads are counted and named, wherever a person looks."""

import os
from pathlib import Path

import pytest

from data.builders.unused_files import files_below, non_image_lines, unused_file_lines
from tests.helpers.colored_images import draw_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images in a folder per class, beside files of other kinds."""
    raw = draw_images(tmp_path / "own", (12, 12, 12))
    for number in range(30):
        (raw / "red" / f"{number:02d}.nii").write_bytes(b"")
    (raw / "blue" / "0.nii.gz").write_bytes(b"")
    (raw / "green" / "IM.1.2.840").write_bytes(b"")
    (raw / "notes.txt").write_text("")
    (raw / "green" / ".hidden").write_text("")
    os.replace(raw / "green" / "0.png", raw / "0.png")
    return raw


EXPECTED = [
    "30 .nii files in F are not used: red/00.nii, red/01.nii, red/02.nii and 27 more; ",
    "1 .nii.gz file in F is not used: blue/0.nii.gz; ",
    "1 .txt file in F is not used: notes.txt; ",
    "1 other file in F is not used: green/IM.1.2.840; ",
    "1 image in F is not used: 0.png; move images into the folder of their class",
]


def test_files_in_no_class_and_of_other_kinds_have_a_line_each(folder: Path) -> None:
    lines = [line.replace(str(folder), "F") for line in unused_file_lines(f"folder:{folder}")]
    assert len(lines) == len(EXPECTED)
    assert all(map(str.startswith, lines, EXPECTED))


def test_other_datasets_have_no_remarks(folder: Path) -> None:
    assert unused_file_lines("digits_lt") == unused_file_lines("kits19") == []
    assert unused_file_lines(f"manifest:{folder / 'none.csv'}") == []


def test_many_kinds_share_a_line(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.{ending}" for ending in "abcdefg" for number in range(2)]
    lines = non_image_lines(tmp_path, [*files, tmp_path / "x"])
    assert len(lines) == 5
    assert lines[-1].startswith("7 other files in ")
    assert len(non_image_lines(tmp_path, files[:10])) == 5


def test_a_name_is_printed_on_one_line(tmp_path: Path) -> None:
    (line,) = non_image_lines(tmp_path, [tmp_path / "a\n\x1b[2J.nii"])
    assert line.isprintable()


def test_folders_that_are_left_out_are_not_walked(folder: Path) -> None:
    names = {file.name for file in files_below(folder, [folder / "red", folder / "none"])}
    assert "00.nii" not in names and "notes.txt" in names
