"""A made-up download is prepared, or refused by name; nothing half-done is left behind."""

import io
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import data.prepared.prepare
from data.audit.published import shared_image_lines
from data.batches.decoded import DecodedImages
from data.batches.image_cache import cached_images
from data.builders.images import SKIPPED_FILE
from data.datasets.ham10000.labels import CLASSES
from data.prepared.prepare import prepare
from data.splits.dataset import load_dataset
from lmf_jax.config import ImageSpec
from lmf_jax.errors import UserError

NUM_IMAGES = 60


@pytest.fixture
def raw_dir(tmp_path: Path) -> Path:
    """Sixty images of all classes, two of a lesion, in the layout of HAM10000."""
    folder = tmp_path / "raw"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    labels, lesions = ["image," + ",".join(CLASSES)], ["lesion_id,image_id"]
    for number in range(NUM_IMAGES):
        name = f"ISIC_{number:07d}"
        pixels = rng.integers(0, 256, (15, 20, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{name}.jpg")
        label = CLASSES[(1, 1, 1, 0, 0, 2, 3, 4, 5, 6)[number % 10]]
        hot = ["1.0" if known == label else "0.0" for known in CLASSES]
        labels.append(",".join([name, *hot]))
        lesions.append(f"HAM_{number // 2},{name}")
    (folder / "GroundTruth.csv").write_text("\n".join(labels) + "\n")
    (folder / "HAM10000_metadata.csv").write_text("\n".join(lesions) + "\n")
    return folder


def image(raw_dir: Path, number: int) -> Path:
    return raw_dir / "images" / f"ISIC_{number:07d}.jpg"


def test_the_bytes_and_the_order_of_the_download_are_kept(raw_dir: Path, tmp_path: Path) -> None:
    prepared = prepare("ham10000", raw_dir, tmp_path / "data")
    assert prepared.class_names == CLASSES
    assert prepared.ids.tolist() == [f"ISIC_{i:07d}" for i in range(NUM_IMAGES)]
    assert prepared.groups.tolist() == [f"HAM_{i // 2}" for i in range(NUM_IMAGES)]
    assert prepared.source[7] == image(raw_dir, 7).read_bytes()
    assert not (tmp_path / "data" / "ham10000" / "1.0.0" / SKIPPED_FILE).exists()


def test_a_prepared_download_is_a_dataset_with_two_splits(raw_dir: Path, tmp_path: Path) -> None:
    prepare("ham10000", raw_dir, tmp_path)
    paper = load_dataset("ham10000", data_dir=tmp_path)
    assert paper.class_counts("train").tolist() == [8, 12, 4, 4, 4, 4, 4]
    assert cached_images(paper, ImageSpec(8, 8), tmp_path).shape == (NUM_IMAGES, 8, 8, 3)
    grouped = load_dataset("ham10000", data_dir=tmp_path, split="grouped")
    train, test = (set(grouped.groups[grouped.rows[part]]) for part in ("train", "test"))
    assert train and test and not train & test
    assert grouped.content_fingerprint == paper.content_fingerprint
    assert grouped.fingerprint != paper.fingerprint


DUMMIES = {  # classes and images of each made-up download, and a name in it
    "covid19_radiography": ([2, 2, 2, 2], "Viral Pneumonia/Viral Pneumonia-2.png"),
    "ham10000": ([2, 1, 1, 1, 1, 1, 1], "ISIC_9000006"),
    "isic2019": ([2, 1, 1, 1, 1, 1, 1, 1], "ISIC_9100008_downsampled"),
    "odir5k": ([1, 1, 1, 1, 1, 1, 1, 1], "9003_right"),
}


@pytest.mark.parametrize("name", DUMMIES)
def test_every_download_is_prepared_from_its_layout(name: str, tmp_path: Path) -> None:
    raw = Path(__file__).parents[3] / "data/datasets" / name / "dummy_data"
    prepared = prepare(name, raw, tmp_path)
    counts, last = DUMMIES[name]
    assert np.bincount(prepared.labels, minlength=len(counts)).tolist() == counts
    assert last in prepared.ids
    for row in range(len(prepared.ids)):
        with Image.open(io.BytesIO(prepared.source[row])) as image:
            assert image.size == (16, 12)
            assert np.asarray(image).std() < 100, "a mask was taken for an image"


def test_x_rays_may_lie_right_in_the_class_folder_as_in_older_releases(tmp_path: Path) -> None:
    dummy = Path(__file__).parents[3] / "data/datasets/covid19_radiography" / "dummy_data"
    old = tmp_path / "raw"
    for path in dummy.glob("*/*/images/*.png"):
        folder = old / path.parts[-3]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    ids = [prepare("covid19_radiography", raw, tmp_path / raw.name).ids for raw in (dummy, old)]
    assert ids[0].tolist() == ids[1].tolist()
    shutil.rmtree(old / "Normal")
    with pytest.raises(UserError, match="Normal is missing; expected a folder for each of COVID"):
        prepare("covid19_radiography", old, tmp_path / "none")


def test_images_in_two_datasets_are_said_when_both_are_prepared(raw_dir, tmp_path) -> None:
    isic = tmp_path / "isic"
    shutil.copytree(Path(__file__).parents[3] / "data/datasets/isic2019/dummy_data", isic)
    table = isic / "ISIC_2019_Training_GroundTruth.csv"
    table.write_text(table.read_text().replace("ISIC_9100003", "ISIC_0000003"))
    folder = isic / "ISIC_2019_Training_Input" / "ISIC_2019_Training_Input"
    (folder / "ISIC_9100003.jpg").rename(folder / "ISIC_0000003.jpg")
    both = tmp_path / "both"
    alone = prepare("isic2019", isic, both)
    assert shared_image_lines("isic2019", alone, both) == []
    prepare("ham10000", raw_dir, both)
    (line,) = shared_image_lines("isic2019", alone, both)
    assert line.startswith("1 images of isic2019 are also in ham10000, which is prepared here")


BREAK = {
    "missing": (lambda path: path.unlink(), "the file is missing"),
    "empty": (lambda path: path.write_bytes(b""), "no known format: the file is empty"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-200]), "image file is trunc"),
    "no image": (lambda path: path.write_text("<html>404</html>"), "it is an HTML page, not an i"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "it is not a regular file"),
}


@pytest.mark.parametrize(("damage", "reason"), BREAK.values(), ids=BREAK.keys())
def test_a_broken_image_is_named_and_nothing_is_written(damage, reason, raw_dir, tmp_path) -> None:
    damage(image(raw_dir, 4))
    data_dir = tmp_path / "data"
    command = f"python -m data prepare ham10000 --raw-dir {raw_dir} --data-dir {data_dir} --skip-b"
    named = rf"\(ISIC_0000004: {reason}[^()]*(\([^()]*\))?\)"
    message = rf"1 of 60 images in .* {named}; .* with " + re.escape(command)
    with pytest.raises(UserError, match=message):
        prepare("ham10000", raw_dir, data_dir)
    assert not list((tmp_path / "data").rglob("*.array_record*"))


def test_a_decompression_bomb_is_not_decoded(raw_dir: Path, tmp_path: Path) -> None:
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "png")
    image(raw_dir, 9).write_bytes(bomb.getvalue())
    with pytest.raises(UserError, match="ISIC_0000009"):
        prepare("ham10000", raw_dir, tmp_path / "data")


def test_broken_images_can_be_left_out_and_are_listed(raw_dir: Path, tmp_path: Path) -> None:
    for number in (4, 5, 40):
        image(raw_dir, number).write_bytes(b"")
    prepared = prepare("ham10000", raw_dir, tmp_path, skip_broken=True)
    assert len(prepared.ids) == NUM_IMAGES - 3
    assert not {"ISIC_0000004", "ISIC_0000005", "ISIC_0000040"} & set(prepared.ids)
    listed = (tmp_path / "ham10000" / "1.0.0" / SKIPPED_FILE).read_text().split()
    assert listed == ["ISIC_0000004", "ISIC_0000005", "ISIC_0000040"]


def test_the_list_of_what_was_left_out_comes_with_the_dataset(
    raw_dir: Path, tmp_path: Path, monkeypatch
) -> None:
    """A process that is killed as soon as the dataset is in its place has left the list too."""
    build = data.prepared.prepare._build

    def build_and_die(builder) -> None:
        build(builder)
        raise KeyboardInterrupt

    image(raw_dir, 4).write_bytes(b"")
    monkeypatch.setattr("data.prepared.prepare._build", build_and_die)
    with pytest.raises(KeyboardInterrupt):
        prepare("ham10000", raw_dir, tmp_path, skip_broken=True)
    assert (tmp_path / "ham10000" / "1.0.0" / SKIPPED_FILE).read_text() == "ISIC_0000004\n"


def test_of_many_broken_images_five_are_named(raw_dir: Path, tmp_path: Path) -> None:
    for number in range(7):
        image(raw_dir, number).unlink()
    with pytest.raises(UserError, match=r"^7 of 60 .*ISIC_0000004: the file is missing, \.\.\.\)"):
        prepare("ham10000", raw_dir, tmp_path / "data")


WRONG = {
    "no folder": ("ham10000", "ham10000 needs --raw-dir, the folder of the download"),
    "a folder too many": ("folder:{raw} --raw-dir {raw}", "takes no --raw-dir"),
    "an unknown dataset": ("ham1000 --raw-dir {raw}", "There is no dataset named 'ham1000'"),
    "a folder that is not there": ("ham10000 --raw-dir {raw}/x", "GroundTruth.csv is missing"),
    "another download": ("odir5k --raw-dir {raw}", "full_df.csv is missing; check the folder"),
    "a data folder that is a file": (
        "ham10000 --raw-dir {raw} --data-dir {raw}/GroundTruth.csv",
        "cannot be written .*; make room there or give another folder with --data-dir",
    ),
}


@pytest.mark.parametrize(("words", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_command_line_is_one_clear_line(
    words, message, raw_dir, tmp_path, monkeypatch, capsys
) -> None:
    words = words.format(raw=raw_dir).split()
    where = [] if "--data-dir" in words else ["--data-dir", str(tmp_path / "data")]
    monkeypatch.setattr(sys, "argv", ["data", "prepare", *words, *where])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("data", run_name="__main__")
    printed = capsys.readouterr().err
    assert stop.value.code == 2
    assert printed.startswith("python -m data: ") and printed.count("\n") == 1
    assert re.search(message, printed)


def test_an_interrupted_run_can_be_run_again(raw_dir, tmp_path, monkeypatch) -> None:
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("data.datasets.ham10000.labels.image_path", interrupted)
        patch.setattr("data.builders.images.ImageFilesBuilder.broken_images", lambda _: [])
        prepare("ham10000", raw_dir, tmp_path / "data")
    assert len(prepare("ham10000", raw_dir, tmp_path / "data").ids) == NUM_IMAGES


def test_what_is_not_prepared_says_how(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="python -m data prepare ham10000 --raw-dir DIR"):
        load_dataset("ham10000", data_dir=tmp_path)


DAMAGE = {
    "no index": lambda folder: (folder / "index.npz").unlink(),
    "an empty index": lambda folder: (folder / "index.npz").write_bytes(b""),
    "half an index": lambda folder: (folder / "index.npz").write_bytes(b"PK\x03\x04 and so on"),
    "other labels": lambda folder: change_index(folder, labels=lambda labels: labels + 3),
    "fewer labels": lambda folder: change_index(folder, labels=lambda labels: labels[1:]),
    "numbers as names": lambda folder: change_index(folder, ids=lambda ids: np.arange(len(ids))),
    "a name twice": lambda folder: change_index(folder, ids=lambda ids: np.repeat(ids[:1], 60)),
    "code": lambda folder: change_index(folder, groups=lambda groups: groups.astype(object)),
}


def change_index(folder: Path, **changes) -> None:
    with np.load(folder / "index.npz") as index:
        arrays = dict(index)
    changed = {name: change(arrays[name]) for name, change in changes.items()}
    np.savez(folder / "index.npz", **(arrays | changed))


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_index_is_made_again(damage, raw_dir: Path, tmp_path: Path) -> None:
    whole = prepare("ham10000", raw_dir, tmp_path)
    damage(whole.folder)
    again = prepare("ham10000", raw_dir, tmp_path)
    assert again.fingerprint == whole.fingerprint
    assert again.ids.tolist() == whole.ids.tolist()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


LOSSES = {
    "no description": lambda folder: (folder / "dataset_info.json").unlink(),
    "half a description": lambda folder: cut(folder / "dataset_info.json"),
    "no class names": lambda folder: (folder / "features.json").write_text("{}"),
    "no images": lambda folder: next(folder.glob("*.array_record*")).unlink(),
    "half the images": lambda folder: cut(next(folder.glob("*.array_record*"))),
}


@pytest.mark.fault(
    "a file of a prepared dataset is cut, emptied or missing",
    "the folder was named, and what to do",
)
@pytest.mark.parametrize("damage", LOSSES.values(), ids=LOSSES.keys())
def test_a_dataset_that_is_not_whole_says_what_to_do(damage, raw_dir, tmp_path) -> None:
    folder = prepare("ham10000", raw_dir, tmp_path).folder
    damage(folder)
    (folder / "index.npz").unlink()
    with pytest.raises(
        UserError, match=r"has no complete dataset .*remove it and prepare"
    ) as error:
        prepare("ham10000", raw_dir, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("fault", [cut, Path.unlink])
def test_images_that_are_lost_after_they_were_prepared_are_named(
    fault, is_open: bool, raw_dir: Path, tmp_path: Path
) -> None:
    prepare("ham10000", raw_dir, tmp_path)
    dataset = load_dataset("ham10000", data_dir=tmp_path)
    (path,) = tmp_path.rglob("*.array_record*")
    if is_open:
        assert dataset.source[8] == image(raw_dir, 8).read_bytes()
    fault(path)
    if is_open and not path.exists():  # the name is gone, the file is not
        assert dataset.source[7] == image(raw_dir, 7).read_bytes()
        return
    message = rf"^Image ISIC_0000007 cannot be read from the prepared dataset {path.parent} \(.*"
    with pytest.raises(UserError, match=message + "; remove that folder and prepare") as error:
        DecodedImages(dataset, ImageSpec(8, 8))[np.array([7])]
    assert "\n" not in str(error.value)


@pytest.mark.fault(
    "one bit of a prepared dataset is flipped, five times",
    "noticed each time, and the image was named",
)
def test_a_bit_that_flipped_in_a_prepared_file_is_noticed(raw_dir: Path, tmp_path: Path) -> None:
    folder = prepare("ham10000", raw_dir, tmp_path).folder
    (path,) = folder.glob("*.array_record*")
    content = path.read_bytes()
    used = len(content[: 1 << 16].rstrip(b"\0"))  # a block: the rest of it is padding
    for position in np.random.default_rng(0).integers(0, used, 5):
        changed = bytearray(content)
        changed[position] ^= 1
        path.write_bytes(changed)
        source, lost = prepare("ham10000", raw_dir, tmp_path).source, 0
        for row in range(NUM_IMAGES):
            try:
                assert source[row] == image(raw_dir, row).read_bytes()
            except UserError:
                lost += 1
        assert lost


def type_in(words: list, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["data", "prepare", *map(str, words)])
    runpy.run_module("data", run_name="__main__")


def test_the_command_says_what_was_left_out_and_what_is_missing(
    raw_dir, tmp_path, monkeypatch, capsys
) -> None:
    (raw_dir / "HAM10000_metadata.csv").unlink()
    image(raw_dir, 3).write_bytes(b"")
    words = ["ham10000", "--raw-dir", raw_dir, "--data-dir", tmp_path / "data", "--skip-broken"]
    type_in(words, monkeypatch)
    first = capsys.readouterr().out
    assert f"1 images left out: {tmp_path}/data/ham10000/1.0.0/skipped.txt" in first
    assert "no patients or lesions are known" in first
    assert "already prepared" not in first
    type_in(words, monkeypatch)
    expected = (
        f"it was already prepared; to prepare it again, remove {tmp_path}/data/ham10000/1.0.0"
    )
    assert expected in capsys.readouterr().out


def test_metadata_that_name_no_image_are_as_none(raw_dir: Path, tmp_path: Path) -> None:
    path = raw_dir / "HAM10000_metadata.csv"
    path.write_text(path.read_text().replace("ISIC", "other"))
    assert prepare("ham10000", raw_dir, tmp_path).groups is None


def test_the_command_prints_classes_and_differences(raw_dir, tmp_path, monkeypatch, capsys) -> None:
    command = ["data", "prepare", "ham10000", "--raw-dir", str(raw_dir)]
    monkeypatch.setattr(sys, "argv", [*command, "--data-dir", str(tmp_path / "data")])
    runpy.run_module("data", run_name="__main__")
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["MEL", "12"]
    assert "train: 40 images, 7011 in the paper" in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "folder", "images"),
    [("ham10000", "ham10000", 10015), ("odir5k", "odir5k_sample", 308)],
)
def test_a_real_download_is_prepared(name, folder, images, real_data, tmp_path: Path) -> None:
    prepared = prepare(name, real_data(folder), tmp_path)
    assert len(prepared.ids) == len(prepared.source) == images
    with Image.open(io.BytesIO(prepared.source[images - 1])) as image:
        assert image.mode == "RGB"


NAMES_OF_A_KIND = ["pythonClassName", "python_class_name", "type", r"pythonClassNam\u0065"]


@pytest.mark.parametrize("key", NAMES_OF_A_KIND)
def test_a_dataset_cannot_name_modules_to_import(key, raw_dir, tmp_path) -> None:
    folder = prepare("ham10000", raw_dir, tmp_path / "data").folder
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    features = folder / "features.json"
    known = "tensorflow_datasets.core.features.text_feature.Text"
    assert known in features.read_text()
    text = features.read_text().replace(known, "evil.Text")
    features.write_text(text.replace("pythonClassName", key))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        with pytest.raises(UserError, match=r"it has a feature outside of TFDS: .*evil\.Text"):
            prepare("ham10000", raw_dir, tmp_path / "data")
    assert not (tmp_path / "ran").exists()


def test_a_dataset_cannot_name_files_elsewhere(raw_dir, tmp_path) -> None:
    folder = prepare("ham10000", raw_dir, tmp_path).folder
    (examples,) = folder.glob("*.array_record*")
    info = folder / "dataset_info.json"
    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    assert template in info.read_text()
    info.write_text(info.read_text().replace(template, f"../{template}"))
    examples.rename(folder.parent / examples.name)
    with pytest.raises(UserError, match=r"has no complete dataset \(its examples are in another"):
        prepare("ham10000", raw_dir, tmp_path)


def test_class_names_that_print_alike_are_refused_where_they_are_opened(raw_dir, tmp_path) -> None:
    folder = prepare("ham10000", raw_dir, tmp_path).folder
    names = folder / "label.labels.txt"
    names.write_text(names.read_text().replace("BCC", "NV"))
    with pytest.raises(UserError, match="two classes that print alike"):
        prepare("ham10000", raw_dir, tmp_path)


def test_images_that_are_lost_later_are_said_in_one_sentence(raw_dir, tmp_path) -> None:
    folder = prepare("ham10000", raw_dir, tmp_path).folder
    cut(next(folder.glob("*.array_record*")))
    prepared = prepare("ham10000", raw_dir, tmp_path)  # the index is whole
    with pytest.raises(
        UserError, match="Image ISIC_0000003 cannot be read from the prepared dataset"
    ):
        prepared.source[3]
