"""Files are found by names in another Unicode form, and through another link to their folder."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.datasets.ham10000 import labels as ham10000
from data.datasets.pairs import labels as pairs
from data.file_names import below, on_disk
from data.names import FolderPair, parse_name
from data.prepared.prepare import prepare
from data.splits.dataset import load_dataset
from lmf_jax.errors import UserError

NFC, NFD = "caf\u00e9", "cafe\u0301"
FORMS = [(NFC, NFD), (NFD, NFC)]


def save_picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def make_manifest(folder: Path, on_the_disk: str, written: str) -> Path:
    """Ten images of two classes in a sub-folder, both with an accent in their names."""
    lines = ["path,label"]
    for number in range(10):
        save_picture(folder / on_the_disk / f"{on_the_disk}-{number}.png", number)
        lines.append(f"{written}/{written}-{number}.png,{'ab'[number % 2]}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "list.csv"


@pytest.mark.parametrize(("on_the_disk", "written"), FORMS)
def test_a_manifest_finds_names_in_another_form(tmp_path, on_the_disk, written) -> None:
    path = make_manifest(tmp_path / "raw", on_the_disk, written)
    dataset = load_dataset(f"manifest:{path}", data_dir=tmp_path / "data")
    assert dataset.ids[3] == f"{written}/{written}-3.png"
    image = tmp_path / "raw" / on_the_disk / f"{on_the_disk}-3.png"
    assert dataset.source[3] == image.read_bytes()
    save_picture(image, 99)  # is noticed, which needs the file to be found too
    changed = load_dataset(f"manifest:{path}", data_dir=tmp_path / "data")
    assert changed.fingerprint != dataset.fingerprint


def test_the_same_file_in_two_forms_is_named_twice(tmp_path: Path) -> None:
    path = make_manifest(tmp_path / "raw", NFC, NFC)
    path.write_text(path.read_text() + f"{NFD}/{NFD}-0.png,b\n")
    with pytest.raises(UserError, match="twice; every image has one label"):
        load_dataset(f"manifest:{path}", data_dir=tmp_path / "data")


def test_a_dataset_is_named_in_another_form(tmp_path: Path) -> None:
    path = make_manifest(tmp_path / NFD, "x", "x")
    named = Path(str(path).replace(NFD, NFC))
    assert parse_name(f"manifest:{named}").path == path
    assert parse_name(f"folder:{named.parent}").path == path.parent


def test_parts_of_a_folder_may_spell_a_class_in_another_form(tmp_path: Path) -> None:
    for part, name in (("train", NFC), ("val", NFD), ("test", NFD)):
        for number in range(3):
            save_picture(tmp_path / part / name / f"{number}.png", number)
            save_picture(tmp_path / part / "mole" / f"{number}.png", number + 3)
    dataset = load_dataset(f"folder:{tmp_path}", data_dir=tmp_path.parent / "data")
    assert dataset.class_names == (NFC, "mole")
    assert dataset.class_counts("test").tolist() == [3, 3]


@pytest.mark.parametrize(("image", "mask"), FORMS)
def test_a_mask_is_found_by_a_name_in_another_form(tmp_path: Path, image: str, mask: str) -> None:
    save_picture(tmp_path / "images" / f"{image}.png", 0)
    save_picture(tmp_path / "masks" / f"{mask}_mask.png", 1)
    (tmp_path / "masks" / "groups.csv").write_text(f"image,group\n{mask}.png,patient 1\n")
    raw = FolderPair(tmp_path / "images", tmp_path / "masks")
    labels = pairs.read_labels(raw)
    assert labels.groups.tolist() == ["patient 1"]
    assert list(pairs.find_masks(raw, labels.ids.tolist())) == [f"{image}.png"]


def test_a_published_csv_finds_names_in_another_form(tmp_path: Path) -> None:
    header = ",".join(ham10000.CLASSES)
    rows = [f"{NFC}{i},{'0,' * (i % 2)}1{',0' * (6 - i % 2)}\n" for i in range(8)]
    (tmp_path / "GroundTruth.csv").write_text(f"image,{header}\n{''.join(rows)}")
    lesions = "".join(f"lesion {i},{NFD}{i}\n" for i in range(8))
    (tmp_path / "HAM10000_metadata.csv").write_text(f"lesion_id,image_id\n{lesions}")
    for number in range(8):
        save_picture(tmp_path / "images" / f"{NFD}{number}.jpg", number)
    prepared = prepare("ham10000", tmp_path, tmp_path.parent / "data")
    assert prepared.groups.tolist() == [f"lesion {i}" for i in range(8)]


@pytest.mark.parametrize("by", ["the link", "the folder"])
def test_a_path_from_the_root_is_found_through_a_link(tmp_path: Path, by: str) -> None:
    path = make_manifest(tmp_path / "real" / "raw", "x", "x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    linked = tmp_path / "link" / "raw"
    written, opened = (path.parent, linked) if by == "the link" else (linked, path.parent)
    path.write_text(path.read_text().replace("x/", f"{written}/x/"))
    dataset = load_dataset(f"manifest:{opened / 'list.csv'}", data_dir=tmp_path / "data")
    assert dataset.ids[0] == "x/x-0.png"


def test_a_path_that_leads_elsewhere_stays(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "out").symlink_to(tmp_path / "b")
    assert below(tmp_path / "a", f"{tmp_path}/b/1.png") == f"{tmp_path}/b/1.png"
    assert below(tmp_path / "a", f"{tmp_path}/a/out/1.png") == "out/1.png"
    assert below(tmp_path / "a", "./x/1.png") == "x/1.png"
    assert below(tmp_path / "a", "/none/1\0.png") == "/none/1\0.png"


def test_of_two_names_that_look_alike_the_one_that_is_written_is_taken(tmp_path: Path) -> None:
    for name in (NFC, NFD):
        (tmp_path / name).write_text(name)
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("the disk takes both forms for one name")
    assert unicodedata.normalize("NFC", NFD) == NFC
    for name in (NFC, NFD):
        assert on_disk(tmp_path / name).read_text() == name
    assert on_disk(tmp_path / "none\u00e9") == tmp_path / "none\u00e9"
