"""Splits and folds by several labels keep groups together and labels in proportion."""

import numpy as np
import pytest

from data.splits.label_strata import label_folds, label_split

FREQUENCIES = [0.4, 0.2, 0.1, 0.04]


def drawn(seed, patients=300):
    """About 2.5 images a patient, which share most labels."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(patients), 1 + rng.poisson(1.5, patients))
    of_patient = rng.random((patients, 4)) < FREQUENCIES
    labels = of_patient[groups] ^ (rng.random((len(groups), 4)) < 0.02)
    return labels.astype(np.int8), groups.astype(str), rng


def assert_groups_are_whole(groups, part_of):
    assert len(set(zip(groups, part_of, strict=True))) == len(set(groups))


@pytest.mark.parametrize("seed", range(5))
def test_every_label_has_its_share_in_every_part(seed):
    """To two images or 3 % of them, whichever is more: a patient has up to about eight."""
    labels, groups, _ = drawn(seed)
    rows = label_split(labels, groups, seed)
    assert list(rows) == ["train", "validation", "test"]
    part_of = np.full(len(labels), "", "U10")
    for part, fraction in zip(rows, (0.7, 0.15, 0.15), strict=True):
        assert (np.diff(rows[part]) > 0).all()
        part_of[rows[part]] = part
        counts = (labels[rows[part]] == 1).sum(axis=0)
        total = (labels == 1).sum(axis=0)
        assert (abs(counts - fraction * total) <= np.maximum(2, 0.03 * total)).all()
        assert abs(len(rows[part]) - fraction * len(labels)) <= 0.03 * len(labels)
    assert (part_of != "").all()
    assert_groups_are_whole(groups, part_of)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("total", [2, 5])
def test_folds_have_equal_shares_of_every_label(seed, total):
    labels, groups, _ = drawn(seed)
    fold_of = label_folds(labels, groups, seed, total)
    assert_groups_are_whole(groups, fold_of)
    for label in range(4):
        counts = np.bincount(fold_of[labels[:, label] == 1], minlength=total)
        mean = counts.mean()
        assert (abs(counts - mean) <= max(2, 0.03 * (labels[:, label] == 1).sum())).all()
    sizes = np.bincount(fold_of, minlength=total)
    assert abs(sizes - sizes.mean()).max() <= 0.03 * len(labels)


def rare(seed):
    """Labels of 3 to 5 patients each, some of which have several."""
    labels, groups, rng = drawn(seed, patients=40)
    labels[:, 2:] = 0
    ids = np.unique(groups)
    for column, patients in ((2, 3 + seed % 3), (3, 5)):
        chosen = rng.choice(ids, patients, replace=False)
        labels[np.isin(groups, chosen), column] = 1
    return labels, groups


def test_a_rare_label_is_in_every_part_when_it_has_as_many_groups():
    for seed in range(20):
        labels, groups = rare(seed)
        rows = label_split(labels, groups, seed)
        for part, found in rows.items():
            assert labels[found].any(axis=0).all(), (seed, part)
        fold_of = label_folds(labels, groups, seed, 3)
        for fold in range(3):
            assert labels[fold_of == fold].any(axis=0).all(), (seed, fold)
        assert_groups_are_whole(groups, fold_of)


def test_a_label_of_fewer_groups_is_in_training_first_and_then_in_test():
    labels, groups, _ = drawn(0, patients=40)
    labels[:, 2:] = 0
    labels[groups == "3", 2] = 1
    labels[np.isin(groups, ["5", "7"]), 3] = 1
    rows = label_split(labels, groups, 0)
    held = {part: labels[found, 2:].any(axis=0).tolist() for part, found in rows.items()}
    assert held == {"train": [True, True], "validation": [False, False], "test": [False, True]}


def test_the_seed_alone_decides():
    labels, groups, _ = drawn(1)
    first, again, other = (label_folds(labels, groups, seed, 5) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    # A group is known by its images, whatever type the labels have.
    np.testing.assert_array_equal(label_folds(labels.astype(np.int32), groups, 3, 5), first)


def test_images_without_groups_are_split_one_by_one():
    labels, _, _ = drawn(2)
    fold_of = label_folds(labels, None, 0, 4)
    for label in range(4):
        counts = np.bincount(fold_of[labels[:, label] == 1], minlength=4)
        assert np.ptp(counts) <= 3
    assert np.ptp(np.bincount(fold_of)) <= 1


def test_degenerate_labels():
    labels = np.zeros((12, 3), int)
    labels[:, 1] = -1  # not known
    labels[:, 2] = 1
    fold_of = label_folds(labels, None, 0, 3)
    np.testing.assert_array_equal(np.bincount(fold_of), [4, 4, 4])
    with pytest.raises(ValueError, match="There are 2 patients, lesions or images for 3 parts"):
        label_split(labels[:2], None, 0)
    with pytest.raises(ValueError, match="There are 1 patients"):
        label_folds(labels, np.full(12, "p"), 0, 2)
