"""``--metadata``: which columns are taken, refused or warned of, and the recorded encoding."""

from dataclasses import replace

import numpy as np
import pytest

from data.inputs.metadata_columns import encode_metadata, unknown_line
from data.splits.dataset import Dataset
from data.splits.multilabel import MultilabelDataset
from lmf_jax.errors import UserError

N = 80
LABELS = np.arange(N, dtype=np.int32) % 2
ROWS = {"train": np.arange(60), "validation": np.arange(60, 70), "test": np.arange(70, 80)}


def column(values) -> np.ndarray:
    return np.array([str(values(row)) for row in range(N)])


METADATA = {
    "age": column(lambda row: "" if row % 10 == 0 else 30 + row % 37),
    "site": column(lambda row: ("hand", "foot", "head")[row % 3]),
    "class": column(lambda row: ("nevus", "melanoma")[row % 2]),
    "code": column(lambda row: row % 2),
    "subtype": column(lambda row: "abcd"[row % 2 + 2 * (row // 2 % 2)]),
    "patient": column(lambda row: f"p{row * 31 // 60}"),
    "number": column(lambda row: 1000 + row),
    "constant": column(lambda row: "clinic"),
    "empty": column(lambda row: ""),
    "stage": column(lambda row: ("1", "2", "2A")[row % 3]),
    "noise": column(lambda row: f"{row / 7:.4f}"),
    "mixed": column(lambda row: row if row else ">80"),
}


def dataset(**changes) -> Dataset:
    known = {
        "name": "own",
        "class_names": ("a", "b"),
        "ids": column(lambda row: f"{row}.png"),
        "groups": None,
        "source": [],
        "rows": ROWS,
        "defaults": {},
        "content_fingerprint": "0" * 64,
        "fingerprint": "1" * 64,
        "metadata": METADATA,
        "labels": LABELS,
    }
    return Dataset(**known | changes)


def test_the_encoding_is_that_of_the_training_part_and_recorded():
    found = encode_metadata(dataset(), "age, site")
    ages = [float(text) for text in METADATA["age"][:60] if text]
    age, site = found.description["metadata"]
    assert age == {
        "name": "age",
        "kind": "number",
        "mean": pytest.approx(np.mean(ages)),
        "std": pytest.approx(np.std(ages)),
    }
    assert site == {"name": "site", "kind": "category", "values": ["foot", "hand", "head"]}
    assert found.notes[0].startswith("metadata beside the image: age (30 to 66, mean 4")
    assert found.notes[0].endswith("unknown for 6 of 60), site (3 categories)")
    assert encode_metadata(dataset(), None).encoding is None
    assert "metadata" not in dataset().description


REFUSED = {
    "absent": ("skin", "the column 'skin'; expected one or several of age, site, class"),
    "twice": ("age,age", "names a column twice"),
    "nothing": (" , ", "--metadata is empty"),
    "one value": ("constant", "column constant of own has the value 'clinic' for every training"),
    "no value": ("empty", "column empty of own has no known value for every training image"),
    "the label": ("class", "column class of own is the label in other words"),
    "the label as a number": ("code", "column code of own is the label in other words"),
    "a patient": ("patient", "column patient of own has 31 values for 60 images of training"),
    "text among many numbers": ("mixed", "has 60 values that are not all numbers, such as '>80'"),
}


@pytest.mark.parametrize(("names", "message"), REFUSED.values(), ids=list(REFUSED))
def test_a_column_that_cannot_be_used_is_refused(names, message):
    with pytest.raises(UserError, match=message):
        encode_metadata(dataset(), names)


def test_a_patient_is_found_by_the_groups_too():
    """With five images of each patient, the values alone do not tell."""
    groups = column(lambda row: f"g{row // 5}")
    ward = column(lambda row: f"w{row // 5}")
    with pytest.raises(UserError, match="has 12 values for 12 lesions or patients of training"):
        encode_metadata(dataset(groups=groups, metadata={"ward": ward}), "ward")
    assert encode_metadata(dataset(metadata={"ward": ward}), "ward").encoding is not None


def test_a_dataset_without_metadata_is_named():
    with pytest.raises(UserError, match="but own has no metadata; if it was prepared by an"):
        encode_metadata(dataset(metadata={}), "age")


@pytest.mark.parametrize(
    ("name", "warning"),
    {
        "number": "metadata number has 60 whole numbers for 60 images; leave it out if they are id",
        "subtype": "metadata subtype has one class for each of its values; leave it out if",
        "stage": "metadata stage is read as categories, because 2A is not a number",
        "noise": None,
        "age": None,
    }.items(),
)
def test_a_suspicious_column_is_warned_of_in_one_line(name, warning):
    first, *others = encode_metadata(dataset(), name).metadata_notes
    assert first.startswith("metadata beside the image")
    assert len(others) == (warning is not None)
    assert all(other.startswith(warning) for other in others)


def test_one_of_several_labels_is_found():
    labels = np.stack([LABELS, np.arange(N) % 3 == 0, np.full(N, -1)], axis=1).astype(np.int32)
    fields = {**vars(dataset()), "labels": labels, "class_names": ("a", "b", "c")}
    with pytest.raises(UserError, match="column code of own is the label in other words"):
        encode_metadata(MultilabelDataset(**fields), "code")
    assert encode_metadata(MultilabelDataset(**fields), "age").encoding is not None


def test_a_run_uses_the_encoding_that_it_recorded():
    recorded = encode_metadata(dataset(), "age,site").description
    recorded["metadata"][0]["mean"] = 50.0
    again = encode_metadata(dataset(), "age,site", recorded)
    assert again.description == recorded
    assert encode_metadata(dataset(), "age", recorded).encoding.names == ("age",)
    changed = {**METADATA, "age": METADATA["age"].copy()}
    changed["age"][79] = "99"  # a test image
    with pytest.raises(
        UserError, match="The values of age, site of own are not those that the run"
    ):
        encode_metadata(dataset(metadata=changed), "age,site", recorded)
    other_data = replace(dataset(metadata=changed), fingerprint="2" * 64)  # refused elsewhere
    assert encode_metadata(other_data, "age,site", recorded).encoding == again.encoding


def test_unknown_and_new_values_are_counted_in_one_line():
    encoding = encode_metadata(dataset(), "age,site").encoding
    metadata = {"age": np.array(["30", "", "old"]), "site": np.array(["hand", "foot", "head"])}
    assert unknown_line(encoding, metadata, 3) == (
        "metadata unknown, of 3 images: age of 2 (1 with a value that no training image has)"
    )
    assert unknown_line(encoding, {}, 3) == "metadata unknown, of 3 images: age of 3, site of 3"
    metadata["age"][1:] = "31"
    assert unknown_line(encoding, metadata, 3) is None
