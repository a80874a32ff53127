"""A person's own folder or manifest is a dataset, or is refused in one sentence."""

import io
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data.builders.images import SKIPPED_FILE
from data.datasets.manifest.labels import read_labels as read_manifest
from data.formats.csv_files import read_csv
from data.names import parse_name
from data.prepared.prepare import open_dataset, prepare
from data.splits.dataset import load_dataset
from lmf_jax.errors import UserError
from tests.helpers.refused_datasets import refused


def save_picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight images of mole and four of "rare one", beside what is no image."""
    raw = tmp_path / "own images"
    for number in range(12):
        name = "mole" if number < 8 else "rare one"
        save_picture(raw / name / f"{number:02d}.png", number)
    (raw / "mole" / "notes.txt").write_text("no image")
    (raw / "mole" / ".hidden.png").write_text("no image")
    (raw / ".thumbnails").mkdir()
    return raw


@pytest.fixture
def in_parts(folder: Path) -> Path:
    """Return the same in train, val and test."""
    for name, numbers in {"mole": range(8), "rare one": range(8, 12)}.items():
        for number in numbers:
            part = {0: "val", 1: "test"}.get(number % 4, "train")
            (folder / part / name).mkdir(parents=True, exist_ok=True)
            (folder / name / f"{number:02d}.png").rename(folder / part / name / f"{number:02d}.png")
        shutil.rmtree(folder / name)
    return folder


@pytest.fixture
def manifest(folder: Path) -> Path:
    """Every image of the folder in a CSV file beside its classes, two to a patient."""
    lines = ["path,label,group,split"]
    for number in range(12):
        label = "mole" if number < 8 else "rare one"
        part = {0: "valid", 1: " Test "}.get(number % 4, "train")
        lines.append(f"{label}/{number:02d}.png,{label},patient {number // 2},{part}")
    path = folder / "list.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_folder_per_class_is_a_dataset(folder: Path, tmp_path: Path) -> None:
    dataset = load_dataset(f"folder:{folder}", data_dir=tmp_path / "data")
    assert dataset.class_names == ("mole", "rare one")
    assert dataset.ids.tolist() == [
        f"{'mole' if number < 8 else 'rare one'}/{number:02d}.png" for number in range(12)
    ]
    assert dataset.labels.tolist() == [0] * 8 + [1] * 4
    assert dataset.source[3] == (folder / "mole" / "03.png").read_bytes()
    assert dataset.groups is None
    assert dataset.defaults["split"] == "paper"
    assert dataset.class_counts("test").tolist() == [1, 1]


def test_a_folder_of_parts_keeps_its_split(in_parts: Path, tmp_path: Path) -> None:
    dataset = load_dataset(f"folder:{in_parts}", data_dir=tmp_path / "data")
    assert dataset.defaults["split"] == "official"
    assert dataset.ids[dataset.rows["validation"]].tolist() == [
        "val/mole/00.png", "val/mole/04.png", "val/rare one/08.png"
    ]  # fmt: skip
    assert dataset.class_counts("train").tolist() == [4, 2]
    by_class = load_dataset(f"folder:{in_parts}", data_dir=tmp_path / "data", split="paper")
    assert by_class.class_counts("train").tolist() == [6, 2]
    assert by_class.content_fingerprint == dataset.content_fingerprint
    assert by_class.fingerprint != dataset.fingerprint


def test_a_manifest_brings_labels_groups_and_split(manifest: Path, tmp_path: Path) -> None:
    dataset = load_dataset(f"manifest:{manifest}", data_dir=tmp_path / "data")
    assert dataset.class_names == ("mole", "rare one")
    assert dataset.groups.tolist() == [f"patient {number // 2}" for number in range(12)]
    assert dataset.rows["test"].tolist() == [1, 5, 9]
    assert dataset.source[11] == (manifest.parent / "rare one" / "11.png").read_bytes()


def test_a_manifest_needs_two_columns(folder: Path, tmp_path: Path) -> None:
    path = folder / "short.csv"
    path.write_text("label,path\nmole,mole/00.png\nrare one,rare one/08.png\n")
    prepared = open_dataset(f"manifest:{path}", tmp_path / "data")
    assert (prepared.groups, prepared.parts) == (None, None)
    assert prepared.ids.tolist() == ["mole/00.png", "rare one/08.png"]


def test_a_path_may_begin_with_a_dot_or_lead_there_from_the_root(manifest, tmp_path) -> None:
    text = manifest.read_text().replace("mole/00.png,", "./mole/00.png ,")
    text = text.replace("mole/01.png", str(manifest.parent / "mole" / "01.png"))
    manifest.write_text(text.replace("path,label", "path, label", 1))
    ids = load_dataset(f"manifest:{manifest}", data_dir=tmp_path / "data").ids
    assert ids[:3].tolist() == ["mole/00.png", "mole/01.png", "mole/02.png"]


def test_a_screenshot_s_narrow_space_is_a_name_like_any_other(folder: Path, tmp_path: Path) -> None:
    (folder / "mole" / "00.png").rename(folder / "mole" / "1\u202fAM.png")
    ids = load_dataset(f"folder:{folder}", data_dir=tmp_path / "data").ids
    assert "mole/1\u202fAM.png" in ids


def test_endings_are_read_in_any_case_and_system_folders_are_passed_over(folder, tmp_path) -> None:
    (folder / "mole" / "00.png").rename(folder / "mole" / "00.PNG")
    (folder / "__MACOSX").mkdir()
    save_picture(folder / "__rare" / "1.png")
    dataset = load_dataset(f"folder:{folder}", data_dir=tmp_path / "data", split="paper")
    assert dataset.class_names == ("__rare", "mole", "rare one")
    assert "mole/00.PNG" in dataset.ids


def test_groups_that_are_all_empty_are_none(manifest: Path, tmp_path: Path) -> None:
    manifest.write_text(re.sub(r"patient \d+", "", manifest.read_text()))
    assert load_dataset(f"manifest:{manifest}", data_dir=tmp_path / "data").groups is None


def test_a_class_that_is_never_trained_on_is_named(manifest: Path, tmp_path: Path) -> None:
    text = re.sub("(rare one,patient .*),train", r"\1,test", manifest.read_text())
    manifest.write_text(text.replace("valid", "train", 1).replace("rare one,patient 4,valid", "x"))
    manifest.write_text(re.sub("(rare one,patient .*),valid", r"\1,test", text))
    with pytest.raises(UserError, match="No image of the class rare one is trained on by --split"):
        load_dataset(f"manifest:{manifest}", data_dir=tmp_path / "data")
    assert open_dataset(f"manifest:{manifest}", tmp_path / "data").class_names[1] == "rare one"


def test_too_few_images_for_a_test_part_are_refused_before_training(folder, tmp_path) -> None:
    for number in [*range(3, 8), 11]:
        next(folder.glob(f"*/{number:02d}.png")).unlink()
    with pytest.raises(UserError, match="No image is in the validation part by --split paper"):
        load_dataset(f"folder:{folder}", data_dir=tmp_path / "data")


def test_what_prepare_lets_through_can_be_decoded(folder: Path, tmp_path: Path) -> None:
    Image.new("F", (4, 4), 0.5).save(folder / "mole" / "float.tiff")
    Image.new("I", (4, 4), 70000).save(folder / "mole" / "deep.tiff")
    with pytest.raises(
        UserError, match=r"2 of 14 .*mole/deep.tiff: .*outside.*, mole/float.tiff: floa"
    ):
        load_dataset(f"folder:{folder}", data_dir=tmp_path / "data")


def test_changed_files_are_another_dataset(folder: Path, tmp_path: Path) -> None:
    name, data_dir = f"folder:{folder}", tmp_path / "data"
    first = load_dataset(name, data_dir=data_dir)
    same = load_dataset(name, data_dir=data_dir)
    save_picture(folder / "mole" / "new.png", 99)
    larger = load_dataset(name, data_dir=data_dir)
    save_picture(folder / "mole" / "new.png", 98)
    os.utime(folder / "mole" / "new.png", ns=(1, 1))
    changed = load_dataset(name, data_dir=data_dir)
    assert first.fingerprint == same.fingerprint
    assert len({first.fingerprint, larger.fingerprint, changed.fingerprint}) == 3
    assert len(larger.ids) == len(changed.ids) == 13


def test_a_moved_folder_is_the_same_dataset(folder: Path, tmp_path: Path) -> None:
    first = load_dataset(f"folder:{folder}", data_dir=tmp_path / "data")
    folder.rename(tmp_path / "elsewhere")
    moved = load_dataset(f"folder:{tmp_path / 'elsewhere'}", data_dir=tmp_path / "data")
    assert moved.fingerprint == first.fingerprint


def test_the_home_folder_is_understood(folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert parse_name("folder:~/own images").path == folder


BROKEN = (
    r"2 of 12 images .*cannot be decoded \(mole/02.png: no known format: the file is empty, "
    r"rare one/08.png: .*truncated.*\).*--skip-broken"
)


def test_broken_images_are_named_and_can_be_left_out(folder: Path, tmp_path: Path) -> None:
    name, data_dir = f"folder:{folder}", tmp_path / "data"
    (folder / "mole" / "02.png").write_bytes(b"")
    (folder / "rare one" / "08.png").write_bytes((folder / "mole" / "01.png").read_bytes()[:-30])
    with pytest.raises(UserError, match=BROKEN):
        load_dataset(name, data_dir=data_dir)
    prepared = prepare(name, None, data_dir, skip_broken=True)
    assert len(prepared.ids) == 10
    assert (prepared.folder / SKIPPED_FILE).read_text() == "mole/02.png\nrare one/08.png\n"
    assert load_dataset(name, data_dir=data_dir).ids.tolist() == prepared.ids.tolist()


def test_images_of_a_manifest_that_are_missing_are_named(manifest: Path, tmp_path: Path) -> None:
    (manifest.parent / "mole" / "05.png").unlink()
    with pytest.raises(UserError, match=r"1 of 12 .*\(mole/05.png: the file is missing\)"):
        load_dataset(f"manifest:{manifest}", data_dir=tmp_path / "data")


def test_if_every_image_is_broken_nothing_is_prepared(folder: Path, tmp_path: Path) -> None:
    for path in folder.glob("*/*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"12 of 12 .*nothing is left to prepare"):
        prepare(f"folder:{folder}", None, tmp_path / "data", skip_broken=True)


def empty(folder: Path) -> None:
    for path in folder.glob("mole/*"):
        path.unlink()


WRONG_FOLDERS = {
    "an empty folder": (lambda f: shutil.rmtree(f) or f.mkdir(), "holds 0 folders; expected one"),
    "one class": (lambda f: shutil.rmtree(f / "mole"), "holds 1 folders; expected one"),
    "a class without images": (empty, "There is no image in .*mole"),
    "a class that is a missing value": (
        lambda f: (f / "mole").rename(f / "NaN"),
        "names the class 'NaN', which stands for a missing value",
    ),
    "a class in two spellings": (
        lambda f: [(f / "mole").rename(f / "1"), (f / "rare one").rename(f / "1.0")],
        "names one class as 1 and as 1.0; spell it in one way",
    ),
    "masks beside images": (
        lambda f: save_picture(f / "mole" / "masks" / "1.png"),
        "mole holds the folder masks; expected images alone",
    ),
    "parts and classes": (
        lambda f: save_picture(f / "train" / "mole" / "1.png"),
        "expected either a folder per class, or train, val and test",
    ),
}


@pytest.mark.parametrize(
    ("change", "message"), WRONG_FOLDERS.values(), ids=list(WRONG_FOLDERS.keys())
)
def test_a_wrong_folder_is_one_clear_error(change, message, folder: Path, tmp_path: Path) -> None:
    change(folder)
    refused(f"folder:{folder}", tmp_path, message)


WRONG_PARTS = {
    "no test part": (
        lambda f: shutil.rmtree(f / "test"),
        "no image in its test part; expected train, test and, if there is one, validation",
    ),
    "a class never trained on": (
        lambda f: save_picture(f / "test" / "zebra" / "1.png"),
        "gives test/zebra/1.png the class 'zebra'; expected one of mole, rare one",
    ),
    "a part twice": (
        lambda f: save_picture(f / "valid" / "mole" / "1.png"),
        "expected either a folder per class, or train, val and test",
    ),
}


@pytest.mark.parametrize(("change", "message"), WRONG_PARTS.values(), ids=list(WRONG_PARTS.keys()))
def test_wrong_parts_are_one_clear_error(change, message, in_parts: Path, tmp_path: Path) -> None:
    change(in_parts)
    refused(f"folder:{in_parts}", tmp_path, message)


LEADS_OUT = "expected a path below one folder"
WRONG_MANIFESTS = {
    "an empty file": (lambda text: "", "lacks the column path, label; it has none"),
    "a header alone": (lambda text: text.splitlines()[0], "names no image"),
    "no label column": (lambda text: text.replace("label", "diagnosis", 1), "lacks the column la"),
    "an empty label": (
        lambda text: text.replace(",mole,", ",,", 1),
        r"list.csv has no label \(empty or nan\) in line 2; give each a value",
    ),
    "labels that are missing": (
        lambda text: text.replace(",mole,", ",nan,", 3).replace(",rare one,", ", NaN ,", 1),
        r"has no label .* in lines 2, 3, 4, 10; give each a value, or remove the row",
    ),
    "many labels that are missing": (
        lambda text: text.replace(",mole,", ",<NA>,"),
        r"in lines 2, 3, 4, 5, 6 and 3 more; ",
    ),
    "a number in two spellings": (
        lambda text: text.replace(",mole,", ",0,", 7).replace(",mole,", ",0.0,", 1),
        r"spells one label as 0 \(line 2\) and as 0.0 \(line 9\); spell it in one way",
    ),
    "a group that is missing": (
        lambda text: text.replace("patient 0", "nan"),
        r"has no group \(nan\) in lines 2, 3; give each a value or leave it empty",
    ),
    "a group in two spellings": (
        lambda text: text.replace("patient 0", "7").replace("patient 1", "7.0"),
        r"spells one group as 7 \(line 2\) and as 7.0 \(line 4\)",
    ),
    "a row of commas": (
        lambda text: text.replace("rare one/08", ",,,\nrare one/08", 1),
        "Line 10 of .*list.csv has no value between its commas; remove it",
    ),
    "one class": (lambda text: text.replace(",rare one,", ",mole,"), "names one class, mole"),
    "an image twice": (lambda text: text.replace("/01", "/00"), "names mole/00.png twice"),
    "a path upwards": (lambda text: text.replace("mole/00", "../00"), LEADS_OUT),
    "a path up and down": (
        lambda text: text.replace("mole/00", "mole/../mole/00"),
        LEADS_OUT,
    ),
    "a path from the root": (lambda text: text.replace("mole/00", "/etc/x"), LEADS_OUT),
    "a path of Windows": (lambda text: text.replace("mole/00", "mole\\00"), LEADS_OUT),
    "an empty path": (lambda text: text.replace("mole/00.png", ""), LEADS_OUT),
    "a path with a line break": (
        lambda text: text.replace("mole/00.png", '"mole/\n00.png"'),
        LEADS_OUT,
    ),
    "an unknown split": (
        lambda text: text.replace("valid", "holdout", 1),
        "Line 2 of .*list.csv puts mole/00.png into the split 'holdout'; expected one of train",
    ),
    "no test part": (lambda text: text.replace(" Test ", "train"), "no image in its test part"),
    "a column twice": (lambda text: text.replace("group", "label", 1), "has a column twice"),
    "semicolons": (lambda text: text.replace(",", ";"), "lacks .* it has path;label;group;split"),
    "a class of two lines": (
        lambda text: text.replace(",mole,", ',"mo\nle",', 1),
        "names the class 'mo.nle'; expected a name without line breaks",
    ),
    "classes that print alike": (
        lambda text: text.replace(",mole,", ",caf\u00e9,").replace(",rare one,", ",cafe\u0301,"),
        "two classes that print alike",
    ),
    "a short line": (lambda text: text + "mole/12.png\n", "does not have the 4 fields"),
    "a quote left open": (lambda text: text + '"mole', "cannot be read as CSV"),
    "a byte of zero": (lambda text: text.replace("mole/00", "mole/\x0000"), LEADS_OUT + "|NUL"),
}


@pytest.mark.parametrize(
    ("change", "message"), WRONG_MANIFESTS.values(), ids=list(WRONG_MANIFESTS.keys())
)
def test_a_wrong_manifest_is_one_clear_error(
    change, message, manifest: Path, tmp_path: Path
) -> None:
    manifest.write_text(change(manifest.read_text()))
    refused(f"manifest:{manifest}", tmp_path, message)


WRONG_NAMES = {
    "nothing": ("", "There is no dataset named ''"),
    "a kind alone": ("folder:", "There is no dataset named 'folder:'"),
    "an unknown kind": ("directory:{folder}", "There is no dataset named 'directory:"),
    "a folder that is not there": ("folder:{folder}/none", "names no existing folder"),
    "a file for a folder": ("folder:{manifest}", "no existing folder; expected folder:PATH"),
    "a folder for a file": (
        "manifest:{folder}",
        "no existing file; expected manifest:FILE",
    ),
    "an npz that is not there": ("medmnist:{folder}/a.npz", "names no existing file"),
    "a CSV for an npz": ("medmnist:{manifest}", "list.csv is damaged or not an npz file"),
    "an image for a CSV": ("manifest:{folder}/mole/00.png", "00.png cannot be read as CSV|lacks"),
    "a name longer than the disk allows": ("folder:{folder}" + 300 * "x", "no existing folder"),
    "a part of the package": ("folder/labels", "There is no dataset named"),
}


@pytest.mark.parametrize(("name", "message"), WRONG_NAMES.values(), ids=list(WRONG_NAMES.keys()))
def test_a_wrong_name_is_one_clear_error(name, message, folder, manifest, tmp_path) -> None:
    refused(name.format(folder=folder, manifest=manifest), tmp_path, message)


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_table_or_one_clear_error(content: bytes, tmp_path_factory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(b"path,label\n" + content)
    try:
        assert all(row["path"] is not None for row in read_csv(path, ("path", "label")))
    except UserError as error:
        assert "\n" not in str(error)


@settings(max_examples=200, deadline=None)
@given(
    name=st.text(
        st.characters(codec="utf-8", exclude_characters='",\r\n\0'), min_size=1, max_size=20
    )
)
def test_no_path_leads_out_of_its_folder(name: str, tmp_path_factory) -> None:
    folder = tmp_path_factory.getbasetemp() / "manifest"
    folder.mkdir(exist_ok=True)
    for path in (name, f"../{name}", f"{name}/../..", f"/{name}", f"a/{name}"):
        content = io.StringIO()
        content.write(f"path,label\n{path},x\nother.png,y\n")
        (folder / "list.csv").write_text(content.getvalue(), encoding="utf-8", newline="")
        try:
            ids = read_manifest(folder / "list.csv").ids
        except UserError as error:
            assert "\n" not in str(error)
        else:
            inside = (folder / str(ids[0])).resolve()
            assert inside.is_relative_to(folder.resolve()) and inside != folder.resolve()
