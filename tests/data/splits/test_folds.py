"""Folds cover every image once, keep groups together and classes in proportion."""

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from data import load_dataset
from data.labels import PARTS, Labels
from data.splits.folds import Fold, assign_folds, default_fold_split, fold_split, selected_fold
from data.splits.methods import default_split, make_split
from data.splits.notes import split_notes
from data.splits.segmentation import load_segmentation_dataset
from data.splits.volumes import load_volumes
from lmf_jax.errors import UserError

FREQUENCIES = (0.6, 0.25, 0.1, 0.05)


def make_labels(labels: np.ndarray, groups: np.ndarray | None = None) -> Labels:
    names = tuple("abcdefgh"[: labels.max() + 1])
    ids = np.array([f"image {row}" for row in range(len(labels))])
    return Labels(names, ids, labels.astype(np.int32), groups)


def of_patients(patients: int, seed: int) -> Labels:
    """About 2.5 images a patient, four of five of them of one class."""
    draw = np.random.default_rng(seed)
    of_patient = draw.choice(4, patients, p=FREQUENCIES)
    of_patient[:8] = np.arange(8) % 4  # two patients of each class
    groups = np.repeat(np.arange(patients), 1 + draw.poisson(1.5, patients))
    labels = np.where(
        draw.random(len(groups)) < 0.8, of_patient[groups], draw.choice(4, len(groups))
    )
    labels[np.searchsorted(groups, np.arange(8))] = np.arange(8) % 4
    return make_labels(labels, groups.astype(str))


def folds_of(labels: Labels, split: str, seed: int, total: int) -> list[dict]:
    return [fold_split(labels, split, seed, Fold(k, total)) for k in range(1, total + 1)]


@pytest.mark.parametrize("total", [2, 5])
@pytest.mark.parametrize("patients", [20, 60])
def test_grouped_folds_test_every_image_once_and_part_no_group(total: int, patients: int) -> None:
    for seed in range(3):
        labels = of_patients(patients, seed)
        assert labels.groups is not None
        folds = folds_of(labels, "grouped", seed, total)
        tested = np.concatenate([rows["test"] for rows in folds])
        assert sorted(tested) == list(range(len(labels.labels)))
        for rows in folds:
            assert sorted(np.concatenate([rows[part] for part in PARTS])) == sorted(tested)
            per_part = [set(labels.groups[rows[part]]) for part in PARTS]
            assert sum(map(len, per_part)) == len(set(labels.groups))
            assert all(per_part)
            assert set(labels.labels[rows["train"]]) == {0, 1, 2, 3}
            assert all(rows[part].dtype == np.int64 for part in PARTS)
            assert all(np.all(np.diff(rows[part]) > 0) for part in PARTS)


def test_every_class_is_in_as_many_folds_as_it_has_groups() -> None:
    plain_failed = 0
    for seed in range(12):
        labels = of_patients(25, seed)
        fold_of = assign_folds(labels, "grouped", seed, 5)
        folder = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        plain = [rows for _, rows in folder.split(labels.labels, labels.labels, labels.groups)]
        for class_id in range(4):
            of_class = labels.labels == class_id
            possible = min(5, len(set(labels.groups[of_class])))
            assert len(set(fold_of[of_class])) == possible
            plain_failed += sum(of_class[rows].any() for rows in plain) < possible
    assert plain_failed  # else the simulation would not need the moves


def test_folds_of_large_data_are_those_of_scikit_learn() -> None:
    labels = of_patients(600, 1)
    fold_of = assign_folds(labels, "grouped", 7, 5)
    folder = StratifiedGroupKFold(5, shuffle=True, random_state=7)
    for number, (_, rows) in enumerate(folder.split(labels.labels, labels.labels, labels.groups)):
        np.testing.assert_array_equal(np.flatnonzero(fold_of == number), rows)
    counts = np.array([np.bincount(labels.labels[fold_of == k], minlength=4) for k in range(5)])
    np.testing.assert_allclose(counts, np.tile(counts.mean(axis=0), (5, 1)), atol=6)


def test_the_validation_part_is_about_15_percent_of_the_other_folds() -> None:
    for split in ("grouped", "paper"):
        for rows in folds_of(of_patients(400, 0), split, 0, 5):
            rest = len(rows["train"]) + len(rows["validation"])
            assert abs(len(rows["validation"]) / rest - 0.15) < 0.02


@pytest.mark.parametrize("total", [2, 3, 7])
def test_folds_by_image_differ_by_at_most_one_image_of_a_class(total: int) -> None:
    for seed in range(5):
        classes = np.random.default_rng(seed).choice(4, 203, p=FREQUENCIES)
        fold_of = assign_folds(make_labels(classes), "paper", seed, total)
        for rows in (classes >= 0, *(classes == class_id for class_id in range(4))):
            assert np.ptp(np.bincount(fold_of[rows], minlength=total)) <= 1


def test_folds_depend_on_the_seed_alone_and_are_the_same_on_every_machine() -> None:
    labels = of_patients(60, 3)
    for split in ("grouped", "paper"):
        first, again, other = (assign_folds(labels, split, seed, 5) for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)
    classes = make_labels(np.array([0, 1] * 6))
    assert assign_folds(classes, "paper", 3, 3).tolist() == [0, 2, 1, 1, 1, 2, 0, 0, 2, 1, 2, 0]


def test_groups_are_kept_together_where_they_are_known_and_not_by_a_choice() -> None:
    """A leaking cross-validation has to be asked for."""
    with_groups, without = of_patients(30, 0), make_labels(np.arange(40) % 2)
    assert default_fold_split(with_groups) == "grouped"
    assert default_fold_split(without) == "paper"
    assert default_split(with_groups) == "paper"
    assert default_split(with_groups, Fold(1, 5)) == "grouped"
    official = Labels(**vars(without) | {"parts": np.array(["train", "test"] * 20)})
    assert default_split(official) == "official"
    assert default_split(official, Fold(1, 5)) == "paper"
    rows = make_split(with_groups, "paper", 0, fold=Fold(1, 3))
    groups = with_groups.groups
    assert groups is not None
    assert set(groups[rows["train"]]) & set(groups[rows["test"]])


@pytest.mark.parametrize("seed", range(5))
def test_a_class_of_two_patients_is_tested_in_two_folds_and_trained_in_all(seed: int) -> None:
    classes = np.array([0] * 40 + [1, 1, 1, 1])
    groups = np.array([f"{row // 2}" for row in range(44)])
    labels = make_labels(classes, groups)
    folds = folds_of(labels, "grouped", seed, 5)
    assert sum((classes[rows["test"]] == 1).any() for rows in folds) == 2
    for number, rows in enumerate(folds, start=1):
        assert (classes[rows["train"]] == 1).any()
        notes = split_notes(labels, rows, "grouped", Fold(number, 5))
        lacking = [part for part in PARTS if not (classes[rows[part]] == 1).any()]
        assert notes == [
            f"No image of the class b is in the {' and the '.join(lacking)} part: 2 patients or "
            "lesions of it are not enough for a part of each of 5 folds."
        ]


@pytest.mark.parametrize(
    ("labels", "split", "message"),
    [
        (
            make_labels(np.array([0] * 9 + [1])),
            "paper",
            r"every image of the class b and have none",
        ),
        (
            make_labels(np.array([0] * 9 + [1] * 3), np.array([*"abcdefghikkk"])),
            "grouped",
            "every patient or lesion of the class b and have none",
        ),
        (
            make_labels(np.arange(30) % 2, np.array([*"abcd"] * 7 + ["a", "b"])),
            "grouped",
            r"there are 4, and 15 images of the largest class; give fewer --folds, or",
        ),
        (make_labels(np.arange(30) % 2), "grouped", "names no patients or lesions; choose paper"),
        (make_labels(np.arange(30) % 2), "official", "choose grouped or paper"),
        (make_labels(np.array([0, 0, 0, 1, 1])), "paper", "^$"),
    ],
)
def test_folds_that_cannot_be_are_refused_in_one_sentence(labels, split, message) -> None:
    if message == "^$":  # the smallest that can be
        assert len(folds_of(labels, split, 0, 5)) == 5
        return
    with pytest.raises(UserError, match=message) as caught:
        fold_split(labels, split, 0, Fold(1, 5))
    assert "\n" not in str(caught.value)


def test_a_fold_has_to_be_selected() -> None:
    assert selected_fold(None, None) is None
    assert selected_fold(5, 2) == Fold(2, 5)
    with pytest.raises(ValueError, match="5 folds and no number"):
        selected_fold(5, None)


def test_folds_of_a_dataset_are_stored_and_have_their_own_fingerprints(data_dir) -> None:
    folds = [load_dataset("digits_lt", data_dir=data_dir, fold=Fold(k, 3)) for k in (1, 2, 3)]
    assert sorted(np.concatenate([fold.rows["test"] for fold in folds])) == list(range(1797))
    assert len({fold.fingerprint for fold in folds}) == 3
    again = load_dataset("digits_lt", data_dir=data_dir, fold=Fold(2, 3))
    assert again.fingerprint == folds[1].fingerprint
    assert again.defaults["split"] == "paper"
    (file,) = (data_dir / "digits_lt").glob("*/splits/paper-seed0-ratio20.0-fold2of3.json")
    assert file.is_file()
    counts = folds[0].class_counts("train")
    assert counts[0] > 10 * counts[-1]  # the long tail is that of every split


def test_folds_of_masks_and_of_volumes_test_every_case_once(data_dir, volumes_dir) -> None:
    masks = [
        load_segmentation_dataset("digits_masks", data_dir=data_dir, fold=Fold(k, 3))
        for k in (1, 2, 3)
    ]
    volumes = [load_volumes("kits19", data_dir=volumes_dir, fold=Fold(k, 2)) for k in (1, 2)]
    for folds in (masks, volumes):
        tested = np.concatenate([fold.rows["test"] for fold in folds])
        assert sorted(tested) == list(range(len(folds[0].ids)))
        assert all(len(fold.rows["validation"]) for fold in folds)


def of_several_labels(seed: int, patients: int = 40) -> Labels:
    """Return images of patients with up to three labels, of which the last is rare."""
    draw = np.random.default_rng(seed)
    groups = np.repeat(np.arange(patients), 1 + draw.poisson(1.0, patients))
    vectors = (draw.random((len(groups), 3)) < [0.5, 0.3, 0.1]).astype(np.int32)
    vectors[np.searchsorted(groups, [0, 1, 2]), 2] = 1
    vectors[draw.random(vectors.shape) < 0.05] = -1
    ids = np.array([f"image {row}" for row in range(len(groups))])
    return Labels(
        ("image",),
        ids,
        np.zeros(len(ids), np.int32),
        groups.astype(str),
        label_names=("a", "b", "c"),
        label_vectors=vectors,
    )


@pytest.mark.parametrize("split", ["grouped", "paper"])
def test_folds_of_several_labels_test_every_image_once_in_proportion(split: str) -> None:
    for seed in range(3):
        labels = of_several_labels(seed)
        folds = folds_of(labels, split, seed, 3)
        tested = np.concatenate([rows["test"] for rows in folds])
        assert sorted(tested) == list(range(len(labels.ids)))
        positive = labels.label_vectors == 1
        for rows in folds:
            assert sorted(np.concatenate([rows[part] for part in PARTS])) == sorted(tested)
            for part in PARTS:
                assert positive[rows[part], :2].any(axis=0).all()
            counts = positive[rows["test"]].sum(axis=0)
            assert (abs(counts - positive.sum(axis=0) / 3) <= 2.5).all()
            rest = np.concatenate([rows["train"], rows["validation"]])
            assert 0.08 < len(rows["validation"]) / len(rest) < 0.23
            if split == "grouped":
                per_part = [set(labels.groups[rows[part]]) for part in PARTS]
                assert sum(map(len, per_part)) == len(set(labels.groups))


def test_folds_without_images_of_a_label_are_refused() -> None:
    labels = of_several_labels(0)
    owners = labels.groups[labels.label_vectors[:, 2] == 1]
    labels.label_vectors[labels.groups != owners[0], 2] = 0
    with pytest.raises(UserError, match="every patient or lesion with the label c and have none"):
        fold_split(labels, "grouped", 0, Fold(1, 3))
    labels.label_vectors[:, 2] = 1
    labels.label_vectors[5, 2] = 0
    with pytest.raises(UserError, match="test on every image without the label c and have none"):
        fold_split(labels, "paper", 0, Fold(1, 3))
    with pytest.raises(UserError, match=r"--folds 99 needs as many .*there are 40"):
        fold_split(labels, "grouped", 0, Fold(1, 99))
    few = labels.only(np.arange(4))
    with pytest.raises(UserError, match="--folds 5 needs as many images; there are 4; give fewer"):
        fold_split(few, "paper", 0, Fold(1, 5))
