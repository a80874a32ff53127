"""Images that may have several labels are a dataset, or are refused in one sentence."""

import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.datasets.digits_multilabel.digits_multilabel_dataset_builder import draw
from data.prepared.prepare import open_dataset, prepare
from data.splits.dataset import load_dataset
from data.splits.multilabel import load_multilabel_dataset
from lmf_jax.errors import UserError
from tests.helpers.refused_datasets import refused

ODIR = Path(__file__).parents[3] / "data/datasets/odir5k/dummy_data"

LABELS = ["A", "A|B", "", "B", "A | C", "C", "A|B|C", ""] * 2


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Sixteen images with up to three labels in the column ``label``, two to a patient."""
    folder = tmp_path / "own"
    folder.mkdir()
    lines = ["path,label,group,split,sex"]
    for number, label in enumerate(LABELS):
        pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
        part = "test" if number >= 12 else "train" if number < 8 else "val"
        lines.append(f"{number:02d}.png,{label},patient {number // 2},{part},{'fm'[number % 2]}")
    path = folder / "list.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def columns(manifest: Path) -> Path:
    """Return the same with a column for each label; C of the first image is missing."""
    lines = ["path,label:B,label: A, label:C,sex"]
    for number, label in enumerate(LABELS):
        names = [name.strip() for name in label.split("|")]
        cells = [str(int(name in names)) for name in "BAC"]
        cells = [cells[0], f"{cells[1]}.0", "" if number == 0 else cells[2]]
        lines.append(f"{number:02d}.png,{','.join(cells)},f")
    path = manifest.with_name("columns.csv")
    path.write_text("\n".join(lines) + "\n")
    return path


VECTORS = [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0], [1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 0, 0]]


def test_names_in_a_column_are_labels(manifest: Path, tmp_path: Path) -> None:
    dataset = load_multilabel_dataset(f"manifest:{manifest}", data_dir=tmp_path / "data")
    assert dataset.class_names == ("A", "B", "C")
    assert dataset.labels.tolist() == VECTORS * 2
    assert dataset.groups.tolist() == [f"patient {number // 2}" for number in range(16)]
    assert list(dataset.metadata) == ["sex"]
    assert dataset.rows["test"].tolist() == [12, 13, 14, 15]
    assert dataset.description["class_counts"]["test"] == [2, 1, 3]
    assert dataset.description["negative_counts"]["test"] == [2, 3, 1]
    assert dataset.source[3] == (manifest.parent / "03.png").read_bytes()


def test_columns_of_0_and_1_are_labels_in_their_order(columns: Path, tmp_path: Path) -> None:
    dataset = load_multilabel_dataset(f"manifest:{columns}", data_dir=tmp_path / "data")
    assert dataset.class_names == ("B", "A", "C")
    expected = np.array(VECTORS * 2)[:, [1, 0, 2]]
    expected[0, 2] = -1
    assert dataset.labels.tolist() == expected.tolist()
    assert list(dataset.metadata) == ["sex"]
    counts = dataset.label_counts("train") + dataset.label_counts("validation")
    counts += dataset.label_counts("test")
    assert counts.tolist() == [[10, 6], [8, 8], [9, 6]]  # 15 of C: one is missing
    again = load_multilabel_dataset(f"manifest:{columns}", data_dir=tmp_path / "data")
    assert again.labels.tolist() == expected.tolist()  # from the stored index


def test_other_labels_of_the_same_images_are_another_dataset(manifest: Path, tmp_path) -> None:
    first = load_multilabel_dataset(f"manifest:{manifest}", data_dir=tmp_path / "data")
    manifest.write_text(manifest.read_text().replace("15.png,,", "15.png,C,"))
    second = load_multilabel_dataset(f"manifest:{manifest}", data_dir=tmp_path / "data")
    assert first.content_fingerprint != second.content_fingerprint


WRONG = {
    "a header alone": (lambda text: text.splitlines()[0], "names no image"),
    "an unknown column": (
        lambda text: text.replace("label", "findings", 1),
        "has no labels in its columns path, findings, group, split, sex; expected a column label",
    ),
    "a single label": (
        lambda text: re.sub(r",[ABC|  ]+,", ",A,", text),
        "names one label, A; expected at least two, or use --task classification",
    ),
    "an empty name": (
        lambda text: text.replace("A|B,", "A||B,", 1),
        r"Line 3 of .* has the labels 'A\|\|B'; expected each once, with \| between them",
    ),
    "a label twice": (
        lambda text: text.replace("A|B,", "A|A,", 1),
        r"Line 3 of .* has the labels 'A\|A'; expected each once",
    ),
    "a missing value": (
        lambda text: text.replace(",B,", ",nan,"),
        "names the class 'nan', which stands for a missing value",
    ),
    "both forms": (
        lambda text: text.replace("sex", "label:D", 1),
        "has the column label and the column label:D; expected the labels in one of these ways",
    ),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=list(WRONG))
def test_a_wrong_column_of_names_is_one_sentence(change, message, manifest, tmp_path) -> None:
    manifest.write_text(change(manifest.read_text()))
    refused(f"manifest_multilabel:{manifest}", tmp_path, message)


WRONG_COLUMNS = {
    "a value that is neither 0 nor 1": (
        lambda text: text.replace("03.png,1,", "03.png,-1,"),
        "Line 5 of .*columns.csv gives 03.png the value '-1' in the column label:B; expected 1, 0",
    ),
    "an image without any known label": (
        lambda text: text.replace("00.png,0,1.0,", "00.png,,NaN,"),
        "leaves all labels of 00.png empty; give 0 for labels that an image does not have, or",
    ),
    "a name with a separator": (
        lambda text: text.replace("label:C", "label:C|D"),
        r"names the label 'C\|D'; expected a name without \|",
    ),
    "a column without a name": (
        lambda text: text.replace("label:C", "label:"),
        "names the class '', which stands for a missing value",
    ),
}


@pytest.mark.parametrize(("change", "message"), WRONG_COLUMNS.values(), ids=list(WRONG_COLUMNS))
def test_wrong_columns_of_labels_are_one_sentence(change, message, columns, tmp_path) -> None:
    columns.write_text(change(columns.read_text()))
    refused(f"manifest_multilabel:{columns}", tmp_path, message)


def test_a_label_that_is_never_trained_on_is_named(manifest: Path, tmp_path: Path) -> None:
    lines = manifest.read_text().splitlines()
    in_training = [line.replace("C", "A") if ",train" in line else line for line in lines]
    manifest.write_text("\n".join(in_training).replace("A|B|A", "A|B").replace("A | A", "A"))
    with pytest.raises(UserError, match="No training image has the label C, so it cannot be lear"):
        load_multilabel_dataset(f"manifest:{manifest}", data_dir=tmp_path / "data")
    always = [
        re.sub("png,[^,]*,", "png,A|B,", line) if ",train" in line else line for line in lines
    ]
    manifest.write_text("\n".join(always))
    with pytest.raises(UserError, match="No training image is known not to have the label A, B"):
        load_multilabel_dataset(f"manifest:{manifest}", data_dir=tmp_path / "data")


def test_splits_are_stratified_by_every_label(data_dir: Path) -> None:
    dataset = load_multilabel_dataset("digits_multilabel", data_dir=data_dir)
    counts = np.array([dataset.label_counts(part)[:, 1] for part in dataset.rows])
    shares = counts / counts.sum(axis=0)
    assert np.abs(shares - [[0.7], [0.15], [0.15]]).max() < 0.05


def test_a_grouped_split_keeps_patients_together(manifest: Path, tmp_path: Path) -> None:
    name = f"manifest:{manifest}"
    dataset = load_multilabel_dataset(name, data_dir=tmp_path / "data", split="grouped")
    owners = [set(dataset.groups_of(part)) for part in dataset.rows]
    assert sum(map(len, owners)) == len(set.union(*owners)) == 8


def test_odir5k_has_the_diagnoses_of_both_eyes(tmp_path: Path) -> None:
    prepared = prepare("odir5k_multilabel", ODIR, tmp_path)
    assert prepared.label_names == ("N", "D", "G", "C", "A", "H", "M", "O")
    assert np.flatnonzero(prepared.label_vectors[2]).tolist() == [2, 3]
    assert prepared.label_vectors[2].tolist() == prepared.label_vectors[3].tolist()
    assert prepared.groups.tolist()[:3] == ["9000", "9000", "9001"]
    assert prepared.metadata["side"].tolist()[:2] == ["left", "right"]


def test_broken_images_are_left_out_with_their_labels(manifest: Path, tmp_path: Path) -> None:
    (manifest.parent / "01.png").write_bytes(b"")
    prepared = prepare(f"manifest_multilabel:{manifest}", None, tmp_path / "data", skip_broken=True)
    assert prepared.label_vectors.tolist() == [VECTORS[0], *VECTORS[2:], *VECTORS]


def test_the_task_needs_a_dataset_of_several_labels_and_the_other_way_round(tmp_path) -> None:
    with pytest.raises(UserError, match="digits_lt do not have several labels; choose one of dig"):
        load_multilabel_dataset("digits_lt", data_dir=tmp_path)
    with pytest.raises(UserError, match="may have several labels; give --task multilabel"):
        load_dataset("digits_multilabel", data_dir=tmp_path)


def test_a_prepared_dataset_of_another_task_is_refused(tmp_path: Path) -> None:
    folder = prepare("odir5k", ODIR, tmp_path).folder
    shutil.copytree(folder, tmp_path / "odir5k_multilabel" / folder.name)
    with pytest.raises(UserError, match="has another dataset; remove it"):
        load_multilabel_dataset("odir5k", data_dir=tmp_path)


def test_the_embedded_images_have_the_digits_of_their_labels(data_dir: Path) -> None:
    from sklearn.datasets import load_digits

    prepared = open_dataset("digits_multilabel", data_dir)
    counts = prepared.label_vectors.sum(axis=0)
    assert prepared.label_vectors.shape == (800, 10)
    assert set(prepared.label_vectors.sum(axis=1)) == {1, 2, 3}
    assert counts[0] > 12 * counts[9] and (counts > 20).all()
    digits = load_digits()
    image, vector = draw(digits.images, digits.target, 5)
    assert vector.tolist() == prepared.label_vectors[5].tolist()
    stored = np.asarray(Image.open(io.BytesIO(prepared.source[5])))
    np.testing.assert_array_equal(stored, image)
    # Each digit of the labels brightens a quarter of its own.
    quarters = image.reshape(2, 24, 2, 24).max(axis=(1, 3))
    assert (quarters > 130).sum() == vector.sum()
