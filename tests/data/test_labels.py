"""Label files as they are downloaded, and all that can be wrong with them."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from lmf_jax.errors import UserError

FILES = {
    "ham10000": {
        "GroundTruth.csv": "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\n"
        "a,0.0,1.0,0.0,0.0,0.0,0.0,0.0\nb,1.0,0.0,0.0,0.0,0.0,0.0,0.0\nc,1,0,0,0,0,0,0\n",
        "HAM10000_metadata.csv": "lesion_id,image_id,dx\nL1,b,mel\nL1,c,mel\n",
    },
    "isic2019": {
        "ISIC_2019_Training_GroundTruth.csv": "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK\n"
        "a,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0\nb_downsampled,1.0,0,0,0,0,0,0,0,0\n"
        "c,1,0,0,0,0,0,0,0,0\n",
        "ISIC_2019_Training_Metadata.csv": "image,lesion_id\na,\nb_downsampled,L1\nc,L1\n",
    },
    "odir5k": {
        "full_df.csv": "ID,N,labels,filename\n7,1,['N'],a.jpg\n8,0,['D'],b.jpg\n8,0,['D'],c.jpg\n",
    },
}


@pytest.fixture(params=FILES)
def name(request) -> str:
    return request.param


def download(folder: Path, name: str) -> Path:
    for file, text in FILES[name].items():
        (folder / file).write_text(text)
    return folder


def read(name: str, folder: Path):
    return importlib.import_module(f"data.datasets.{name}.labels").read_labels(folder)


def test_labels_are_those_of_the_files(tmp_path: Path, name: str) -> None:
    labels = read(name, download(tmp_path, name))
    assert [image[0] for image in labels.ids] == ["a", "b", "c"]
    first, *others = (labels.class_names[label] for label in labels.labels)
    assert (first, others) == {
        "ham10000": ("NV", ["MEL", "MEL"]),
        "isic2019": ("NV", ["MEL", "MEL"]),
        "odir5k": ("N", ["D", "D"]),
    }[name]
    own, one, other = labels.groups
    assert one == other != own


@pytest.mark.parametrize("name", ["ham10000", "isic2019"])
def test_without_metadata_there_are_no_groups(tmp_path: Path, name: str) -> None:
    download(tmp_path, name)
    (tmp_path / list(FILES[name])[1]).unlink()
    assert read(name, tmp_path).groups is None


LEADS_OUT = "expected a path below one folder"
WRONG = {
    "no file": (lambda text: None, "is missing"),
    "an empty file": (lambda text: "", "lacks the column"),
    "a header alone": (lambda text: text.splitlines()[0] + "\n", "names no image"),
    "a missing column": (lambda text: text.replace("image", "picture", 1), "lacks the column"),
    "a short line": (lambda text: text + "d,1\n", "does not have the"),
    "a long line": (lambda text: text + "d" + ",0" * 30 + "\n", "does not have the"),
    "an image twice": (lambda text: text + text.splitlines()[-1] + "\n", "names c twice"),
    "no class": (lambda text: text.replace("1.0", "0.0", 1), "expected a single 1"),
    "two classes": (lambda text: text.replace("0.0,1.0", "1.0,1.0", 1), "expected a single 1"),
    "half a class": (lambda text: text.replace("1.0", "0.5", 1), "expected a single 1"),
    "a name of another folder": (
        lambda text: text.replace("\na,", "\n../a,"),
        LEADS_OUT,
    ),
    "a name from the root": (
        lambda text: text.replace("\na,", "\n/etc/a,"),
        LEADS_OUT,
    ),
    "a name of Windows": (
        lambda text: text.replace("\na,", "\n..\\a,"),
        LEADS_OUT,
    ),
    "an empty name": (lambda text: text.replace("\na,", "\n,"), LEADS_OUT),
    "a name with a NUL": (lambda text: text.replace("\na,", "\na\0,"), "GroundTruth.csv"),
    "an open quote": (lambda text: text.replace("\na,", '\n"a,'), "cannot be read as CSV"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_file_is_one_clear_error(tmp_path: Path, change, message: str) -> None:
    path = download(tmp_path, "ham10000") / "GroundTruth.csv"
    text = change(path.read_text())
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read("ham10000", tmp_path)
    assert "GroundTruth.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (download(tmp_path, "ham10000") / "GroundTruth.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match="cannot be read as CSV"):
        read("ham10000", tmp_path)


@pytest.mark.parametrize("label", ["['X']", "['N', 'D']", "N", ""])
def test_an_eye_without_one_known_label_is_refused(tmp_path: Path, label: str) -> None:
    path = download(tmp_path, "odir5k") / "full_df.csv"
    path.write_text(path.read_text().replace("['N']", f'"{label}"'))
    with pytest.raises(UserError, match=r"a(\.jpg)? the (class|labels)"):
        read("odir5k", tmp_path)


def test_an_unknown_class_of_isic_is_refused(tmp_path: Path) -> None:
    path = download(tmp_path, "isic2019") / "ISIC_2019_Training_GroundTruth.csv"
    path.write_text(path.read_text() + "d,0,0,0,0,0,0,0,0,1\n")
    with pytest.raises(UserError, match="gives d the class 'UNK'"):
        read("isic2019", tmp_path)


@pytest.mark.parametrize(
    ("name", "folder", "images", "groups"),
    [
        ("ham10000", "ham10000", 10015, 7470),
        ("isic2019", "isic2019", 25331, 13931),
        ("odir5k", "odir5k_sample", 308, 159),
    ],
)
def test_the_real_files_hold_what_is_known_of_them(name, folder, images, groups, real_data) -> None:
    labels = read(name, real_data(folder))
    assert (len(labels.ids), len(np.unique(labels.groups))) == (images, groups)


@pytest.mark.parametrize("column", ["path", "label", "group"])
def test_one_long_name_cannot_fill_the_memory(column: str, tmp_path: Path) -> None:
    # As arrays of text these would take 10,000 times the 400 kB of the longest.
    rows = [{"path": f"{row}.png", "label": "ab"[row % 2], "group": "g"} for row in range(10_000)]
    rows[7][column] = "x" * 100_000
    lines = [",".join(row.values()) for row in rows]
    (tmp_path / "a.csv").write_text("\n".join(["path,label,group", *lines]))
    with pytest.raises(UserError, match=r"a name of 100000 characters \(xxx.*expected 500 at most"):
        read("manifest", tmp_path / "a.csv")
