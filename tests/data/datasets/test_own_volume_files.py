"""dataset.json and the names of files: what is read, and what is refused in one sentence."""

import json
import shutil
from pathlib import Path

import pytest

from data.datasets.volumes.dataset_json import read_dataset_json
from data.datasets.volumes.layout import find_images, find_own_volumes, remark_lines
from data.names import FolderPair
from lmf_jax.errors import UserError

LABELS = {"background": 0, "liver": 1, "tumor": 2}
GOOD = {"channel_names": {"0": "CT"}, "labels": LABELS, "file_ending": ".nii.gz"}


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "dataset.json"
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return path


def test_both_versions_are_read(tmp_path: Path) -> None:
    second = {**GOOD, "labels": {"tumor": 5, "background": 0, "liver": [2]}, "numTraining": 3}
    found = read_dataset_json(written(tmp_path, second))
    assert found.class_names == ("background", "liver", "tumor")
    assert found.label_values == (0, 2, 5)
    assert found.modalities == ("CT",)
    assert found.num_cases == 3
    first = {
        "modality": {"0": "FLAIR", "1": "T1w"},
        "labels": {"0": "background", "10": "edema", "2": "core"},
        "tensorImageSize": "4D",
        "training": [{"image": "./imagesTr/../../x.nii.gz", "label": "/etc/passwd"}],
    }
    found = read_dataset_json(written(tmp_path, first))
    assert found.class_names == ("background", "core", "edema")
    assert found.label_values == (0, 2, 10)
    assert found.modalities == ("FLAIR", "T1w")


BROKEN = {
    "not JSON": ("{", "is not JSON"),
    "not UTF-8": ('{"labels": "\ud800"}', "is not JSON"),
    "nested": ("[" * 100_000, "is not JSON"),
    "a list": ([GOOD], "holds a list; expected an object"),
    "no labels": ({"channel_names": {"0": "CT"}}, "has labels nothing; expected 2 to 256"),
    "a list of labels": ({**GOOD, "labels": ["liver"]}, "has labels .*; expected 2 to 256"),
    "one label": ({**GOOD, "labels": {"background": 0}}, "expected 2 to 256 such as"),
    "many labels": ({**GOOD, "labels": {f"a{n}": n for n in range(300)}}, r"\.\.\.; expected 2"),
    "a fraction": ({**GOOD, "labels": {**LABELS, "x": 1.5}}, "gives x the label 1.5; expected a w"),
    "a truth": ({**GOOD, "labels": {**LABELS, "x": True}}, "gives x the label True"),
    "negative": ({**GOOD, "labels": {**LABELS, "x": -1}}, "gives x the label -1"),
    "too large": ({**GOOD, "labels": {**LABELS, "x": 10**30}}, "expected a whole number from 0"),
    "texts": ({**GOOD, "labels": {"background": "0", "x": "1"}}, "gives 0 the label background"),
    "twice": ({**GOOD, "labels": {**LABELS, "x": 2}}, "gives tumor and x the label 2"),
    "no background": ({**GOOD, "labels": {"a": 1, "b": 2}}, "has no label 0"),
    "a region": ({**GOOD, "labels": {**LABELS, "x": [1, 2]}}, "has the region x .*not supported"),
    "ignore": ({**GOOD, "labels": {**LABELS, "ignore": 3}}, "has the label ignore, which is not"),
    "a name with a line": ({**GOOD, "labels": {"background": 0, "a\nb": 1}}, "names the class"),
    "no modality": ({"labels": LABELS}, "has modality nothing; expected the modalities by number"),
    "modalities from 1": ({**GOOD, "channel_names": {"1": "CT"}}, "expected a name for each of 0"),
    "a modality 3": ({**GOOD, "channel_names": {"0": 3}}, "expected a name for each of 0"),
    "a modality with a line": ({**GOOD, "channel_names": {"0": "C\nT"}}, "without line breaks"),
    "PNG": ({**GOOD, "file_ending": ".png"}, r"the file_ending .png; expected .nii.gz or .nii"),
    "no text": ({**GOOD, "file_ending": []}, r"the file_ending \[\]"),
    "a list of files": ({**GOOD, "dataset": {"a": {}}}, "lists its files in dataset"),
    "a text of cases": ({**GOOD, "numTraining": "3"}, "has numTraining 3; expected the number"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_refused_in_one_sentence(content, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    with pytest.raises(UserError, match=message) as raised:
        read_dataset_json(path)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


def test_a_large_or_missing_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    with pytest.raises(UserError, match="cannot be read"):
        read_dataset_json(path)
    with path.open("wb") as file:
        file.truncate(2**25)
    with pytest.raises(UserError, match="has 33554432 bytes; expected at most"):
        read_dataset_json(path)


def layout(root: Path, images: list[str], labels: list[str], **entries: object) -> Path:
    """Make empty files in nnU-Net's layout; nothing opens them."""
    for folder, names in (("imagesTr", images), ("labelsTr", labels)):
        (root / folder).mkdir(parents=True)
        for name in names:
            (root / folder / name).touch()
    written(root, {**GOOD, **entries})
    return root


TWO = {"channel_names": {"0": "T1", "1": "T2"}}


def test_cases_are_found_by_the_names_of_their_files(tmp_path: Path) -> None:
    images = ["b_0000.nii.gz", "b_0001.nii", "a 1.x_0000.nii.gz", "._a_0000.nii.gz"]
    root = layout(tmp_path / "numbered", images, ["b.nii", "a 1.x.nii.gz"], **TWO)
    found = find_own_volumes(root)
    assert [case.id for case in found.cases] == ["a 1.x", "b"]
    assert found.cases[1].images == ("b_0000", "b_0001")
    assert [path.name for path in found.cases[1].image_paths()] == ["b_0000.nii.gz", "b_0001.nii"]
    assert found.cases[1].labels_path() == root / "labelsTr" / "b.nii"
    with pytest.raises(UserError, match=r"has no a 1.x_0001.nii.gz or a 1.x_0001.nii"):
        found.cases[0].image_paths()


def test_a_year_at_the_end_of_a_name_is_not_the_number_of_a_modality(tmp_path: Path) -> None:
    """As in the Medical Segmentation Decathlon: a label map is called as its image."""
    names = ["scan_2019.nii.gz", "scan_2020.nii.gz"]
    found = find_own_volumes(layout(tmp_path, names, names))
    assert [case.id for case in found.cases] == ["scan_2019", "scan_2020"]
    assert not found.is_numbered


WRONG = {
    "no image": (([], ["a.nii"], {}), "imagesTr has no NIfTI file; expected files such as CASE_00"),
    "no label map": ((["a_0000.nii"], [], {}), "labelsTr has no NIfTI file"),
    "both endings": ((["a.nii", "a.nii.gz"], ["a.nii"], {}), r"a.nii.gz and a.nii; expected one"),
    "a modality too many": (
        (["a_0000.nii", "a_0001.nii"], ["a.nii"], {}),
        "has a_0001, and dataset.json names the modalities 0 to 0; expected",
    ),
    "no number": (
        (["a.nii"], ["a.nii"], TWO),
        "without the number of a modality, and .* a_0000",
    ),
    "one without number": (
        (["a_0000.nii", "b.nii"], ["a.nii"], {}),
        "has b without the number of a modality, beside names with one; expected b_0000",
    ),
    "a long name": (([f"{'n' * 240}_0000.nii"], ["a.nii"], {}), "expected a name without control"),
    "a line": ((["a\n_0000.nii"], ["a.nii"], {}), "expected a name without control"),
}


@pytest.mark.parametrize(("files", "message"), WRONG.values(), ids=WRONG.keys())
def test_ambiguous_names_are_refused(files, message: str, tmp_path: Path) -> None:
    images, labels, entries = files
    with pytest.raises(UserError, match=message):
        find_own_volumes(layout(tmp_path / "root", images, labels, **entries))


def test_a_folder_of_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no dataset.json; expected nnU-Net's layout .* or"):
        find_own_volumes(tmp_path)
    written(tmp_path, GOOD)
    with pytest.raises(UserError, match="imagesTr cannot be listed"):
        find_own_volumes(tmp_path)
    with pytest.raises(UserError, match="is given for images and for label maps"):
        find_own_volumes(FolderPair(tmp_path, tmp_path))


def test_two_folders_need_no_dataset_json_and_may_have_one(tmp_path: Path) -> None:
    root = layout(tmp_path, ["a_0000.nii", "a_0001.nii", "b_0000.nii"], ["a.nii", "b.nii"], **TWO)
    pair = FolderPair(root / "imagesTr", root / "labelsTr")
    found = find_own_volumes(pair)
    assert found.modalities == ("modality 0", "modality 1") and found.declared is None
    shutil.move(root / "dataset.json", root / "labelsTr")
    assert find_own_volumes(pair).modalities == ("T1", "T2")


def test_files_that_are_not_used_are_named(tmp_path: Path) -> None:
    root = layout(tmp_path, ["a_0000.nii"], ["a.nii", "b.nii", "notes.txt"], numTraining=3)
    (root / "imagesTs").mkdir()
    (root / "predictions").mkdir()
    lines = [line.replace(str(root), "R") for line in remark_lines(find_own_volumes(root))]
    assert lines == [
        "R/dataset.json has numTraining 3; 1 case found, all used",
        "R/imagesTs is not used; predict takes it as its FOLDER",
        "1 NIfTI file in R/labelsTr is not used: b.nii; a label map has the name of a case, such "
        "as a",
        "1 .txt file in R/labelsTr is not used: notes.txt; volumes have to be NIfTI",
        "1 folder in R is not used: predictions; files have to be directly in the folder",
    ]


def test_images_to_predict_are_named_as_in_training(tmp_path: Path) -> None:
    root = layout(tmp_path, ["a_0000.nii", "a_0001.nii", "b_0001.nii"], ["a.nii"], **TWO)
    cases = find_images(root / "imagesTr", ("T1", "T2"), is_numbered=True)
    assert [case.id for case in cases] == ["a", "b"] and cases[0].labels is None
    with pytest.raises(UserError, match=r"a without the number .* CASE_0000.nii.gz and CASE_0001"):
        find_images(root / "labelsTr", ("T1", "T2"), is_numbered=True)
    (case,) = find_images(root / "labelsTr", ("CT",), is_numbered=False)
    assert case.id == "a"


def test_images_may_be_folders_of_series_or_enhanced_files(tmp_path: Path) -> None:
    images = ["a_0000.nii.gz", "b_0000.dcm"]
    root = layout(tmp_path, images, ["a.nii.gz", "b.nii.gz", "c.nii.gz"])
    folder = root / "imagesTr"
    for name in ("c_0000", "empty"):
        (folder / name).mkdir()
    (folder / "c_0000" / "1.dcm").touch()
    (folder / "empty" / "notes.txt").touch()
    found = find_own_volumes(root)
    paths = [case.image_paths()[0].name for case in found.cases]
    assert paths == ["a_0000.nii.gz", "b_0000.dcm", "c_0000"]
    assert folder / "c_0000" / "1.dcm" in found.files()
    (line,) = remark_lines(found)
    assert "1 folder in" in line and "empty" in line
    (folder / "c_0000.nii").touch()
    with pytest.raises(UserError, match=r"imagesTr has c_0000.nii and c_0000; expected one"):
        find_own_volumes(root)


def test_one_dicom_volume_is_a_case_of_a_model_with_one_modality(tmp_path: Path) -> None:
    folder = tmp_path / "scan_0000"
    folder.mkdir()
    (folder / "1.dcm").touch()
    for path in (folder, shutil.copy(folder / "1.dcm", tmp_path / "scan_0000.dcm")):
        (case,) = find_images(path, ("CT",), is_numbered=True)
        assert case.id == "scan" and case.image_paths() == [path]
        (case,) = find_images(path, ("CT",), is_numbered=False)
        assert case.id == "scan_0000" and case.image_paths() == [path]
        with pytest.raises(UserError, match="is one DICOM volume; expected a folder with T1, T2"):
            find_images(path, ("T1", "T2"), is_numbered=True)
    (tmp_path / "scan_0000.dcm").unlink()
    (case,) = find_images(tmp_path, ("CT",), is_numbered=True)  # a folder of a series is no series
    assert case.id == "scan" and case.folder == tmp_path
