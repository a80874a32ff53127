"""A person's images and masks become a dataset, or what is wrong is said in one sentence."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import SegmentationDataset, load_segmentation_dataset, open_masks
from data.builders.images import SKIPPED_FILE
from data.builders.unused_files import unused_file_lines
from data.datasets.pairs.labels import find_masks, mask_classes
from data.names import FolderPair, parse_name
from data.prepared.prepare import prepare
from lmf_jax.config import ImageSpec
from lmf_jax.errors import UserError
from tests.helpers.image_pairs import SIZE, classes_of, draw_image, draw_mask, draw_pairs
from tests.helpers.refused_datasets import refused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "own"


def load(name: str, tmp_path: Path, **options) -> SegmentationDataset:
    return load_segmentation_dataset(name, data_dir=tmp_path / "data", **options)


def check_masks(dataset: SegmentationDataset, num_classes: int) -> None:
    """Check that every image has the mask that follows from its number."""
    masks = open_masks(dataset, ImageSpec(36, 36), cache="none")[np.arange(len(dataset.ids))]
    for name, mask in zip(dataset.ids.tolist(), masks, strict=True):
        expected = classes_of(int(Path(name).stem), num_classes)
        np.testing.assert_array_equal(mask, expected.repeat(4, axis=0).repeat(3, axis=1))


@pytest.mark.parametrize("ending", ["", "_segmentation", "_mask"])
@pytest.mark.parametrize("white", [1, 255])
def test_two_folders_are_a_dataset(ending: str, white: int, folder: Path, tmp_path: Path) -> None:
    dataset = load(draw_pairs(folder, 20, ending, white=white), tmp_path)
    assert dataset.class_names == ("background", "class-1")
    assert dataset.ids.tolist() == [f"{number:02d}.png" for number in range(20)]
    assert dataset.source[3] == (folder / "images" / "03.png").read_bytes()
    assert dataset.masks[3] == (folder / "masks" / f"03{ending}.png").read_bytes()
    assert {part: len(rows) for part, rows in dataset.rows.items()} == {
        "train": 14,
        "validation": 3,
        "test": 3,
    }
    assert (dataset.groups, dataset.defaults) == (None, {"split": "paper"})
    check_masks(dataset, 2)


def test_class_ids_may_be_many(folder: Path, tmp_path: Path) -> None:
    dataset = load(draw_pairs(folder, 12, num_classes=4), tmp_path)
    assert dataset.class_names == ("background", "class-1", "class-2", "class-3")
    check_masks(dataset, 4)


def test_a_file_names_the_classes_of_which_some_may_not_occur(folder: Path, tmp_path) -> None:
    name = draw_pairs(folder, 12, num_classes=3)
    (folder / "masks" / "classes.txt").write_text("\ufeffskin\nmole\nhair\nruler\n", "utf-8")
    dataset = load(name, tmp_path)
    assert dataset.class_names == ("skin", "mole", "hair", "ruler")
    check_masks(dataset, 3)


def test_a_file_may_name_the_two_classes_of_black_and_white(folder: Path, tmp_path: Path) -> None:
    name = draw_pairs(folder, 12, white=255)
    (folder / "masks" / "classes.txt").write_text("skin\nmole")
    dataset = load(name, tmp_path)
    assert dataset.class_names == ("skin", "mole")
    check_masks(dataset, 2)


def in_parts(folder: Path, masks_too: bool) -> str:
    """Twelve images in train, Val and test."""
    for number in range(12):
        part = ("train", "train", "Val", "test")[number % 4]
        draw_image(folder / "images" / part / f"{number:02d}.jpg", number)
        draw_mask(folder / "masks" / (part if masks_too else "") / f"{number:02d}.png", number)
    return f"pairs:{folder / 'images'},{folder / 'masks'}"


@pytest.mark.parametrize("masks_too", [False, True])
def test_folders_of_parts_are_the_official_split(masks_too: bool, folder: Path, tmp_path) -> None:
    dataset = load(in_parts(folder, masks_too), tmp_path)
    assert dataset.defaults == {"split": "official"}
    assert dataset.ids[dataset.rows["validation"]].tolist() == [
        "Val/02.jpg",
        "Val/06.jpg",
        "Val/10.jpg",
    ]
    check_masks(dataset, 2)


def test_groups_stay_together(folder: Path, tmp_path: Path) -> None:
    name = draw_pairs(folder, 24)
    rows = "".join(f"{number:02d}.png,patient {number // 2}\n" for number in range(20))
    (folder / "masks" / "groups.csv").write_text("image,group\n" + rows)
    dataset = load(name, tmp_path, split="grouped")
    assert dataset.groups[[0, 1, 2]].tolist() == ["patient 0", "patient 0", "patient 1"]
    assert len(set(dataset.groups[20:].tolist())) == 4
    assert len(dataset.groups_of("test")) == len(dataset.rows["test"])
    parts = [set(dataset.groups_of(part).tolist()) for part in dataset.rows]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 14


def test_changed_masks_names_and_groups_are_another_dataset(folder: Path, tmp_path: Path) -> None:
    name = draw_pairs(folder, 12)
    masks, seen = folder / "masks", {load(name, tmp_path).fingerprint}
    draw_mask(masks / "03.png", 4)
    os.utime(masks / "03.png", ns=(1, 1))
    seen.add(load(name, tmp_path).fingerprint)
    (masks / "classes.txt").write_text("skin\nmole\n")
    seen.add(load(name, tmp_path).fingerprint)
    (masks / "groups.csv").write_text("image,group\n00.png,a\n")
    seen.add(load(name, tmp_path).fingerprint)
    assert len(seen) == 4


def test_moved_folders_are_the_same_dataset(folder: Path, tmp_path: Path) -> None:
    first = load(draw_pairs(folder, 12), tmp_path)
    folder.rename(tmp_path / "elsewhere")
    name = f"pairs:{tmp_path}/elsewhere/images,{tmp_path}/elsewhere/masks"
    assert load(name, tmp_path).fingerprint == first.fingerprint


def test_the_label_of_a_pair_depends_on_both_folders(folder: Path) -> None:
    name = draw_pairs(folder, 1)
    (folder / "others").mkdir()
    label = parse_name(name).label
    assert re.fullmatch("pairs-images-[0-9a-f]{8}", label)
    assert parse_name(name.replace("/masks", "/others")).label != label


def test_masks_of_no_image_are_named(folder: Path, tmp_path: Path) -> None:
    name = draw_pairs(folder, 12, "_mask")
    for other in ("99", "03_mask_a", "3_mask", "03_1", "03_mask_1_2"):
        draw_mask(folder / "masks" / f"{other}.png", 99)
    assert len(load(name, tmp_path).ids) == 12
    (line,) = unused_file_lines(name)
    assert line.startswith(f"5 masks in {folder / 'masks'} are not used: 03_1.png, ")


def save_part(path: Path, columns: slice, value: int = 255, size: tuple[int, int] = SIZE) -> None:
    """Write a mask of some columns alone."""
    pixels = np.zeros(size[::-1], np.uint8)
    pixels[:, columns] = value
    Image.fromarray(pixels).save(path)


def test_several_masks_of_an_image_are_joined(folder: Path, tmp_path: Path) -> None:
    name, masks = draw_pairs(folder, 12, "_mask", white=255), folder / "masks"
    save_part(masks / "03_mask.png", slice(0, 2))
    save_part(masks / "03_mask_1.png", slice(1, 4))
    save_part(masks / "03_mask_10.png", slice(8, 9))
    (masks / "05_mask.png").rename(masks / "05_mask_1.png")
    dataset = load(name, tmp_path)
    rows = dataset.ids.tolist().index("03.png"), dataset.ids.tolist().index("05.png")
    joined = open_masks(dataset, ImageSpec(36, 36), cache="none")[np.array(rows)]
    assert joined[0, 0, ::3].tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0]
    np.testing.assert_array_equal(joined[1, 0, ::3], classes_of(5)[0])
    (line,) = unused_file_lines(name)
    assert line.startswith("1 image with several masks each, which are joined: 03_mask.png, 03_ma")
    save_part(masks / "03_mask_10.png", slice(8, 10))
    os.utime(masks / "03_mask_10.png", ns=(1, 1))
    assert load(name, tmp_path).fingerprint != dataset.fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"value": 2}, "its 2 masks give 9 pixels two values, such as 1 and 2; expected"),
        ({"value": 1, "size": (9, 12)}, "its 2 masks have 12x9 and 9x12 pixels; expected one"),
    ],
)
def test_masks_that_do_not_fit_each_other_are_refused(options, message, folder, tmp_path) -> None:
    name, masks = draw_pairs(folder, 12, "_mask"), folder / "masks"
    save_part(masks / "03_mask.png", slice(0, 2), 1)
    save_part(masks / "03_mask_1.png", slice(1, 4), **options)
    refused(name, tmp_path, rf"\(03.png: the mask cannot be decoded, {message}")


@pytest.mark.parametrize("deeper", ["patient 1/a.png", "train/x/a.png", "extra/deep/a.png"])
def test_images_in_further_folders_are_refused(deeper: str, folder: Path, tmp_path) -> None:
    name = in_parts(folder, False) if deeper[0] == "t" else draw_pairs(folder, 12)
    draw_image(folder / "images" / deeper, 1)
    message = r"holds 1 image in further folders \(.*a.png\); expected images right in it, or in tr"
    refused(name, tmp_path, message)


def test_one_folder_may_lie_in_the_other(folder: Path, tmp_path: Path) -> None:
    draw_pairs(folder, 12)
    (folder / "masks").rename(folder / "images" / "masks")
    assert len(load(f"pairs:{folder}/images,{folder}/images/masks", tmp_path).ids) == 12
    assert unused_file_lines(f"pairs:{folder}/images,{folder}/images/masks") == []


def test_images_beside_parts_and_files_of_other_kinds_are_named(folder: Path, tmp_path) -> None:
    name = in_parts(folder, False)
    draw_image(folder / "images" / "99.png", 1)
    for number in range(30):
        (folder / "images" / "train" / f"{number:02d}.nii").write_bytes(b"")
    for file in ("groups.csv", "classes.txt", "Thumbs.db", ".DS_Store", "notes.pdf"):
        (folder / "masks" / file).write_text("image,group\n" if file[0] == "g" else "a\nb\n")
    assert len(load(name, tmp_path).ids) == 12
    lines = unused_file_lines(name)
    assert [line.split(":")[0].replace(f"{folder}/", "") for line in lines] == [
        "30 .nii files in images are not used",
        "1 .pdf file in masks is not used",
        "1 image in images is not used",
    ]
    assert "train/00.nii, train/01.nii, train/02.nii and 27 more" in lines[0]


def test_images_without_a_fitting_mask_are_named_or_left_out(folder: Path, tmp_path: Path) -> None:
    name, masks = draw_pairs(folder, 12), folder / "masks"
    (masks / "02.png").unlink()
    Image.new("L", (9, 12)).save(masks / "05.png")
    (masks / "07.png").write_bytes(b"no image")
    faults = (
        r"\(02.png: the mask is missing, 05.png: the mask has 9x12 pixels, the image 12x9, "
        r"07.png: the mask cannot be decoded, no known format\)"
    )
    with pytest.raises(UserError, match=f"3 of 12 images in .*{faults}.*--skip-broken"):
        load(name, tmp_path)
    prepared = prepare(name, None, tmp_path / "data", skip_broken=True)
    assert (prepared.folder / SKIPPED_FILE).read_text() == "02.png\n05.png\n07.png\n"
    check_masks(load(name, tmp_path), 2)


def test_if_no_mask_is_whole_nothing_is_prepared(folder: Path, tmp_path: Path) -> None:
    name = draw_pairs(folder, 2)
    for path in (folder / "masks").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"2 of 2 .*nothing is left to prepare"):
        prepare(name, None, tmp_path / "data", skip_broken=True)


def save(path: Path, values: list[int], format: str = "png") -> None:
    pixels = np.resize(np.array(values, np.uint8), SIZE[::-1])
    Image.fromarray(pixels).save(path, format, **({"quality": 60} if format == "jpeg" else {}))


def write(folder: Path, name: str, text: str) -> None:
    (folder / "masks" / name).write_text(text)


VALUES = "expected 0 to C - 1 for C classes, or 0 and 255 of two"
WRONG = {
    "a gray between": (
        lambda f: save(f / "masks" / "03.png", [0, 128, 255]),
        f"hold the values 0, 1, 128, 255, and the one of 03.png alone 0, 128, 255; {VALUES}",
    ),
    "a class that is not there": (
        lambda f: save(f / "masks" / "03.png", [0, 1, 3]),
        f"hold the values 0, 1, 3, and the one of 03.png alone 0, 1, 3; {VALUES}",
    ),
    "black and white beside class ids": (
        lambda f: save(f / "masks" / "03.png", [0, 255]),
        "hold the values 0, 1, 255, and",
    ),
    "a photograph": (
        lambda f: save(f / "masks" / "03.png", range(100)),
        "hold the values 0, 1, 2, 3, ..., 99, 100 in all, and the one of 03.png alone 0, 1, 2",
    ),
    "nothing but background": (
        lambda f: [save(path, [0]) for path in (f / "masks").iterdir()],
        f"hold the values 0, and .*; {VALUES}",
    ),
    "a JPEG of class ids": (
        lambda f: save(f / "masks" / "03.png", [0, 9], "jpeg"),
        r"1 of 8 .*\(03.png: the mask cannot be decoded, it is a JPEG, which changes class ids, "
        r"and holds the values 0, 1.*; save masks as PNG\)",
    ),
    "more classes than names": (
        lambda f: [
            write(f, "classes.txt", "skin\nmole\n"),
            save(f / "masks" / "03.png", [0, 1, 2]),
        ],
        "hold the values 0, 1, 2, .*expected 0 to 1, the classes in classes.txt, or 0 and 255",
    ),
    "white of three names": (
        lambda f: [
            write(f, "classes.txt", "skin\nmole\nhair\n"),
            *(save(path, [0, 255]) for path in (f / "masks").glob("*.png")),
        ],
        "hold the values 0, 255, .*expected 0 to 2, the classes in classes.txt",
    ),
    "one name": (lambda f: write(f, "classes.txt", "skin\n"), "classes.txt has 1 lines; expected"),
    "an empty name": (
        lambda f: write(f, "classes.txt", "skin\n\nmole\n"),
        "classes.txt has 3 lines and an empty one; expected the name of a class in each, 2 to 256",
    ),
    "a name twice": (lambda f: write(f, "classes.txt", "a\na\n"), "two classes that print alike"),
    "names that are no text": (
        lambda f: (f / "masks" / "classes.txt").write_bytes(b"\xff\xfe"),
        "classes.txt cannot be read as text",
    ),
    "groups without a column": (lambda f: write(f, "groups.csv", "image\n"), "lacks the column gr"),
    "a group of no image": (
        lambda f: write(f, "groups.csv", "image,group\n03,a\n"),
        "groups.csv names 03, which is not an image; expected names such as 00.png",
    ),
    "two groups of an image": (
        lambda f: write(f, "groups.csv", "image,group\n03.png,a\n03.png,b\n"),
        "groups.csv names an image twice",
    ),
    "two masks": (
        lambda f: draw_mask(f / "masks" / "03_mask.png", 3),
        r"03.png in .* has 2 masks in .* \(03.png, 03_mask.png\); expected one",
    ),
    "a mask of two images": (
        lambda f: draw_image(f / "images" / "03.jpg", 3),
        "03.jpg and 03.png in .* have the same mask, .*03.png; expected one for each",
    ),
    "no image": (lambda f: shutil.rmtree(f / "images") or (f / "images").mkdir(), "There is no im"),
    "a part twice": (
        lambda f: [(f / "images" / part).mkdir() for part in ("val", "valid")],
        "holds a part twice: val, valid; expected train, val and test, or files alone",
    ),
    "a part that is missing": (
        lambda f: draw_image(f / "images" / "train" / "03.png", 3),
        "no image in its test part",
    ),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_one_clear_error(change, message: str, folder: Path, tmp_path) -> None:
    name = draw_pairs(folder, 8)
    change(folder)
    refused(name, tmp_path, message)


def test_masks_of_black_and_white_and_gray_are_refused(folder: Path, tmp_path: Path) -> None:
    name = draw_pairs(folder, 8, white=255)
    save(folder / "masks" / "03.png", [0, 128, 255])
    refused(name, tmp_path, f"values 0, 128, 255, and the one of 03.png alone 0, 128, .*{VALUES}")


MASKS = {  # values of eight masks, and which of them is wrong
    "one with a gray between": ([[0, 255]] * 7 + [[0, 128, 255]], 7),
    "black and white beside class ids": ([[0, 1, 2]] * 7 + [[0, 255]], 7),
    "class ids beside black and white": ([[0, 255]] * 7 + [[0, 1]], 7),
    "class ids beside black and white and empty masks": ([[0]] * 4 + [[0, 255]] * 3 + [[0, 1]], 7),
    "few masks of a class": ([[0, 1]] * 4 + [[0, 1, 2]] + [[0, 1]] * 2 + [[0, 255]], 7),
    "white alone": ([[0, 1]] * 7 + [[255]], 7),
    "a gap": ([[0, 1]] * 7 + [[0, 1, 3]], 7),
    "a gap in one of few values": ([[0, 1, 2]] * 7 + [[0, 9]], 7),
    "a picture of few values": ([[0, 1, 2]] * 7 + [[0, 200]], 7),
    "a gap in all": ([[0, 2]] * 8, 0),
    "background in all": ([[0]] * 8, 0),
}


@pytest.mark.parametrize(("values", "wrong"), MASKS.values(), ids=MASKS.keys())
def test_a_mask_that_is_wrong_is_named(values: list[list[int]], wrong: int) -> None:
    pair = FolderPair(Path("images"), Path("masks"))
    by_name = {f"{number}.png": of_mask for number, of_mask in enumerate(values)}
    listed = ", ".join(map(str, values[wrong]))
    with pytest.raises(UserError, match=f"the one of {wrong}.png alone {listed}; expected"):
        mask_classes(pair, by_name)


def test_of_two_names_the_mask_with_other_values_is_named(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("skin\nmole\n")
    pair = FolderPair(tmp_path, tmp_path)
    for usual, other in (([0, 255], [0, 1]), ([0, 1], [0, 255]), ([0, 1], [0, 1, 2])):
        values = {str(number): usual for number in range(7)} | {"odd": other}
        with pytest.raises(UserError, match="the one of odd alone"):
            mask_classes(pair, values)


WRONG_NAMES = {
    "one folder": "pairs:{folder}/images",
    "an empty folder of masks": "pairs:{folder}/images,",
    "an empty folder of images": "pairs:,{folder}/masks",
    "a folder that is not there": "pairs:{folder}/images,{folder}/none",
    "a file": "pairs:{folder}/images,{folder}/masks/03.png",
    "three folders": "pairs:{folder}/images,{folder}/masks,{folder}/masks",
}


@pytest.mark.parametrize("name", WRONG_NAMES.values(), ids=WRONG_NAMES.keys())
def test_a_name_of_other_than_two_folders_is_refused(name: str, folder, tmp_path) -> None:
    draw_pairs(folder, 8)
    name = name.format(folder=folder)
    refused(name, tmp_path, "names no existing folder; expected pairs:IMAGES,MASKS")


def test_a_kind_alone_is_no_name(tmp_path: Path) -> None:
    refused("pairs:", tmp_path, "There is no dataset named 'pairs:'.*pairs:IMAGES,MASKS")


def test_images_and_masks_in_one_folder_are_refused(folder: Path) -> None:
    draw_pairs(folder, 2)
    for number in range(2):
        draw_mask(folder / "images" / f"{number:02d}_mask.png", number)
    pair = FolderPair(folder / "images", folder / "images")
    with pytest.raises(UserError, match=r"00.png in .* has 2 masks in .* \(00.png, 00_mask.png\)"):
        find_masks(pair, ["00.png", "00_mask.png", "01.png", "01_mask.png"])


def test_real_isic2018_as_two_folders(real_data) -> None:
    raw = real_data("isic2018_task1")
    pair = parse_name(f"pairs:{raw / 'images'},{raw / 'masks'}").raw
    images = [f"train/{path.name}" for path in (raw / "images" / "train").glob("*.jpg")]
    found = find_masks(pair, images)
    assert len(found) == len(images) == 1600
    for name in images[:10]:
        assert [path.name for path in found[name]] == [f"{Path(name).stem}_segmentation.png"]
