"""A made-up download with masks is prepared, or refused by name; nothing half-done is left."""

import io
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import load_dataset, load_segmentation_dataset, open_masks
from data.audit.published import count_difference_lines, shared_image_lines
from data.builders.images import SKIPPED_FILE
from data.datasets.ham10000_masks import labels as ham10000_masks
from data.datasets.isic2018_task1.labels import read_labels
from data.formats.masks import read_mask
from data.prepared.prepare import prepare
from lmf_jax.config import ImageSpec
from lmf_jax.errors import UserError

DATA = Path(__file__).parents[3] / "data/datasets"
DUMMIES = {  # of each made-up download: its folder, and its images
    "ham10000_masks": (DATA / "ham10000" / "dummy_data", 8),
    "isic2018_task1": (DATA / "isic2018_task1" / "dummy_data", 8),
}


@pytest.fixture
def isic(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DUMMIES["isic2018_task1"][0], tmp_path / "isic"))


def in_challenge_folders(copy: Path, folder: Path) -> Path:
    """Return the same images in the folders of the challenge."""
    for part, short in (("Training", "train"), ("Validation", "val"), ("Test", "test")):
        images = folder / f"ISIC2018_Task1-2_{part}_Input"
        shutil.copytree(copy / "images" / short, images)
        (images / "LICENSE.txt").write_text("CC-0")
        masks = folder / f"ISIC2018_Task1_{part}_GroundTruth"
        masks.mkdir()
        for image in images.glob("*.jpg"):
            shutil.copy(copy / "masks" / f"{image.stem}_segmentation.png", masks)
    return folder


@pytest.mark.parametrize("name", DUMMIES)
def test_a_download_keeps_the_bytes_of_images_and_masks(name: str, tmp_path: Path) -> None:
    raw, count = DUMMIES[name]
    prepared = prepare(name, raw, tmp_path)
    assert prepared.mask_classes == ("background", "lesion")
    assert len(prepared.ids) == len(prepared.source) == len(prepared.masks) == count
    for row, image in enumerate(prepared.ids):
        (path,) = raw.rglob(f"{image}.jpg")
        assert prepared.source[row] == path.read_bytes()
        mask = raw / "masks" / f"{image}_segmentation.png"
        assert prepared.masks[row] == mask.read_bytes()
    assert not (prepared.folder / SKIPPED_FILE).exists()


def test_isic2018_comes_split_in_either_layout(isic: Path, tmp_path: Path) -> None:
    challenge = in_challenge_folders(isic, tmp_path / "challenge")
    for raw in (isic, challenge):
        prepare("isic2018_task1", raw, tmp_path / "data" / raw.name)
    datasets = [
        load_segmentation_dataset("isic2018_task1", data_dir=tmp_path / "data" / raw.name)
        for raw in (isic, challenge)
    ]
    for dataset in datasets:
        assert dataset.defaults == {"split": "official"}
        assert {part: len(rows) for part, rows in dataset.rows.items()} == {
            "train": 4,
            "validation": 2,
            "test": 2,
        }
        assert dataset.ids[[0, 7]].tolist() == ["ISIC_9200000", "ISIC_9200007"]
    assert datasets[0].fingerprint == datasets[1].fingerprint


def test_how_it_differs_from_the_challenge_is_said(isic: Path, tmp_path: Path) -> None:
    prepared = prepare("isic2018_task1", isic, tmp_path)
    assert (
        count_difference_lines("isic2018_task1", prepared)[2]
        == "test: 2 images, 1000 in the challenge"
    )
    ham10000 = prepare("ham10000_masks", DUMMIES["ham10000_masks"][0], tmp_path)
    assert count_difference_lines("ham10000_masks", ham10000) == []


def test_ham10000_has_the_metadata_of_its_download(tmp_path: Path) -> None:
    raw = shutil.copytree(DUMMIES["ham10000_masks"][0], tmp_path / "raw")
    lines = (raw / "HAM10000_metadata.csv").read_text().splitlines()
    more = ["age,sex", *(f"{number}5.0,female" for number in range(1, len(lines)))]
    text = "\n".join(f"{line},{added}" for line, added in zip(lines, more, strict=True))
    (raw / "HAM10000_metadata.csv").write_text(text + "\n")
    metadata = prepare("ham10000_masks", raw, tmp_path / "masks").metadata
    diagnosed = prepare("ham10000", raw, tmp_path / "classes").metadata
    assert set(metadata["sex"]) == {"female"} and len(set(metadata["age"])) > 1
    for column in ("age", "sex"):
        assert metadata[column].tolist() == diagnosed[column].tolist()


def test_ham10000_has_lesions_and_no_classes_of_images(tmp_path: Path) -> None:
    raw, _ = DUMMIES["ham10000_masks"]
    prepared = prepare("ham10000_masks", raw, tmp_path)
    diagnosed = prepare("ham10000", raw, tmp_path)
    assert prepared.groups.tolist() == diagnosed.groups.tolist()
    assert not prepared.labels.any()
    assert prepared.class_names == ("image",)
    # What is learned differs, so that they may be prepared side by side without a word.
    assert shared_image_lines("ham10000_masks", prepared, tmp_path) == []


def test_the_fingerprint_covers_the_masks(isic: Path, tmp_path: Path) -> None:
    first = prepare("isic2018_task1", isic, tmp_path / "first").fingerprint
    path = isic / "masks" / "ISIC_9200003_segmentation.png"
    Image.fromarray(255 - read_mask(path.read_bytes())).save(path)
    assert prepare("isic2018_task1", isic, tmp_path / "second").fingerprint != first


def resized(path: Path) -> None:
    with Image.open(path) as mask:
        mask.resize((8, 12)).save(path)


def colored(path: Path) -> None:
    Image.new("RGB", (16, 12), "red").save(path)


def dark(path: Path) -> None:
    Image.new("L", (16, 12), 7).save(path)


MASK, IMAGE = "masks/ISIC_9200001_segmentation.png", "images/train/ISIC_9200001.jpg"
BREAK = {
    "no mask": (MASK, Path.unlink, "the mask is missing"),
    "half a mask": (MASK, lambda p: p.write_bytes(p.read_bytes()[:-20]), "the mask cannot be dec"),
    "another size": (MASK, resized, "the mask has 8x12 pixels, the image 16x12"),
    "colors": (MASK, colored, "the mask cannot be decoded, a mask is gray or has a palette"),
    "other values": (MASK, dark, "the mask cannot be decoded, its values are 7; expected 0 to 1"),
    "no image": (IMAGE, lambda p: p.write_bytes(b""), "the image cannot be decoded, no known form"),
}


@pytest.mark.parametrize(("file", "damage", "reason"), BREAK.values(), ids=BREAK.keys())
def test_what_is_broken_is_named_with_its_reason_or_left_out(
    file: str, damage, reason: str, isic: Path, tmp_path: Path
) -> None:
    damage(isic / file)
    message = rf"^1 of 8 images in {isic} or their masks are .* \(ISIC_9200001: {reason}.*--skip-br"
    with pytest.raises(UserError, match=message) as error:
        prepare("isic2018_task1", isic, tmp_path / "data")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "data").rglob("*.array_record*"))
    prepared = prepare("isic2018_task1", isic, tmp_path / "data", skip_broken=True)
    assert len(prepared.ids) == 7
    assert "ISIC_9200001" not in prepared.ids
    assert (prepared.folder / SKIPPED_FILE).read_text() == "ISIC_9200001\n"
    for row, name in enumerate(prepared.ids):  # none has slipped to another image
        mask = isic / "masks" / f"{name}_segmentation.png"
        assert prepared.masks[row] == mask.read_bytes()


def test_a_missing_image_of_ham10000_is_named(tmp_path: Path) -> None:
    raw = shutil.copytree(DUMMIES["ham10000_masks"][0], tmp_path / "raw")
    ham10000_masks.image_path(raw, "ISIC_9000002").unlink()
    with pytest.raises(UserError, match=r"\(ISIC_9000002: the image is missing\)"):
        prepare("ham10000_masks", raw, tmp_path / "data")


def test_a_mask_is_turned_like_its_image(isic: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by a quarter
    with Image.open(isic / IMAGE) as image:
        image.save(isic / IMAGE, exif=exif)
    with pytest.raises(UserError, match="the mask has 16x12 pixels, the image 12x16"):
        prepare("isic2018_task1", isic, tmp_path)
    with Image.open(isic / MASK) as mask:
        mask.rotate(-90, expand=True).save(isic / MASK)
    assert len(prepare("isic2018_task1", isic, tmp_path).ids) == 8


def test_images_lie_in_one_part_and_every_part_has_some(isic: Path, tmp_path: Path) -> None:
    shutil.copy(isic / IMAGE, isic / "images" / "test")
    with pytest.raises(UserError, match="names ISIC_9200001 twice"):
        read_labels(isic)
    shutil.rmtree(isic / "images" / "test")
    with pytest.raises(UserError, match=r"images/test cannot be read \(No such file"):
        read_labels(isic)
    (isic / "images" / "test").mkdir()
    with pytest.raises(UserError, match=r"There is no image in .*images/test"):
        read_labels(isic)
    (isic / "images" / "test" / "ISIC_1_superpixels.png").touch()
    with pytest.raises(UserError, match="no image in its test part"):
        read_labels(isic)
    with pytest.raises(UserError, match=r"holds neither ISIC2018_Task1-2_Training_Input nor im"):
        read_labels(tmp_path)


def damaged(prepared, tmp_path: Path) -> None:
    (path,) = prepared.folder.glob("*.array_record*")
    path.write_bytes(path.read_bytes()[:50])


def test_a_mask_that_is_lost_after_it_was_prepared_is_named(isic: Path, tmp_path: Path) -> None:
    damaged(prepare("isic2018_task1", isic, tmp_path), tmp_path)
    dataset = load_segmentation_dataset("isic2018_task1", data_dir=tmp_path)
    message = r"^Mask ISIC_9200000 cannot be read from the prepared dataset .*; remove that folder"
    with pytest.raises(UserError, match=message):
        open_masks(dataset, ImageSpec(8, 8), cache="none")[np.array([0])]


def test_another_dataset_in_the_place_of_one_with_masks_is_refused(
    isic: Path, tmp_path: Path
) -> None:
    ham10000 = prepare("ham10000", DUMMIES["ham10000_masks"][0], tmp_path).folder
    shutil.copytree(ham10000, tmp_path / "isic2018_task1" / "1.0.0")
    with pytest.raises(UserError, match=r"isic2018_task1/1.0.0 has another dataset; re"):
        load_segmentation_dataset("isic2018_task1", data_dir=tmp_path)


def test_datasets_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ham10000_masks have masks and no classes; give --task"):
        load_dataset("ham10000_masks", data_dir=tmp_path)
    with pytest.raises(
        UserError, match=r"digits_lt have classes and no masks.*task1, pairs:IMAGES,MASKS\."
    ):
        load_segmentation_dataset("digits_lt", data_dir=tmp_path)
    with pytest.raises(UserError, match="python -m data prepare isic2018_task1 --raw-dir DIR"):
        load_segmentation_dataset("isic2018_task1", data_dir=tmp_path)


def run(monkeypatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["data", *words])
    runpy.run_module("data", run_name="__main__")


def test_the_commands_say_what_the_pixels_are(isic: Path, tmp_path, monkeypatch, capsys) -> None:
    options = ["isic2018_task1", "--data-dir", str(tmp_path / "data")]
    run(monkeypatch, "prepare", *options, "--raw-dir", str(isic))
    printed = capsys.readouterr().out
    assert re.search(r"^image +8$", printed, re.MULTILINE)
    assert "every pixel is one of: background, lesion\n" in printed
    run(monkeypatch, "audit", *options)
    first, heading, *lines = capsys.readouterr().out.splitlines()
    assert first == "split official"
    assert heading.split() == ["class", "train", "validation", "test"]
    assert lines[0].split() == ["all", "4", "2", "2"]
    # Every mask of 16x12 pixels has a lesion of 6x4.
    assert lines[1].split() == ["pixels", "of", "background", "87.50%", "87.50%", "87.50%"]
    assert lines[2].split() == ["pixels", "of", "lesion", "12.50%", "12.50%", "12.50%"]
    run(monkeypatch, "audit", *options, "--labels-only", "--raw-dir", str(isic))
    assert "pixels" not in capsys.readouterr().out


def test_real_isic2018(real_data, tmp_path: Path) -> None:
    raw = real_data("isic2018_task1")
    labels = read_labels(raw)
    counts = dict(zip(*np.unique(labels.parts, return_counts=True), strict=True))
    assert counts == {"train": 1600, "validation": 400, "test": 594}
    shares = [foreground(raw / "masks" / f"{name}_segmentation.png") for name in labels.ids]
    assert len(shares) == 2594
    assert min(shares) > 0
    assert np.mean(shares) == pytest.approx(0.2843, abs=1e-4)


def foreground(path: Path) -> float:
    mask = read_mask(path.read_bytes())
    assert set(np.unique(mask)) == {0, 255}
    return float((mask == 255).mean())


def test_palettes_of_real_ham10000_are_not_taken_for_classes(real_data) -> None:
    """The 402 masks with a palette are white at index 0: their lesions are where it is white."""
    raw = real_data("ham10000")
    with_palette = []
    for number in range(24316, 24616):
        path = raw / "masks" / f"ISIC_{number:07d}_segmentation.png"
        encoded = path.read_bytes()
        if Image.open(io.BytesIO(encoded)).mode == "P":
            with_palette.append(read_mask(encoded))
    assert len(with_palette) > 50
    corners = np.mean([mask[[0, 0, -1, -1], [0, -1, 0, -1]] == 255 for mask in with_palette])
    center = np.mean([mask[75, 100] == 255 for mask in with_palette])
    assert corners < 0.05 < 0.9 < center
