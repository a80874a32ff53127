"""The split rule against the paper's tables, and the long tail."""

import numpy as np
import pytest

from data.labels import PARTS, Labels
from data.splits.grouped import grouped_split
from data.splits.methods import make_split, possible_splits
from data.splits.paper import long_tail, paper_split
from lmf_jax.errors import UserError

HAM10000 = {  # class sizes, and the training sizes of the paper's Table 1
    "nv": (6705, 4693),
    "mel": (1113, 779),
    "bkl": (1099, 769),
    "bcc": (514, 360),
    "akiec": (327, 229),
    "vasc": (142, 100),
    "df": (115, 81),
}


def labels_of(counts: list[int]) -> np.ndarray:
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return np.random.default_rng(0).permutation(labels)


def counts_in(labels: np.ndarray, rows: np.ndarray) -> list[int]:
    return np.bincount(labels[rows], minlength=labels.max() + 1).tolist()


def test_paper_split_gives_the_papers_counts_on_ham10000() -> None:
    sizes, train_sizes = map(list, zip(*HAM10000.values(), strict=True))
    labels = labels_of(sizes)
    rows = paper_split(labels, seed=0)
    assert counts_in(labels, rows["train"]) == train_sizes
    held_out = [(n - train) // 2 for n, train in zip(sizes, train_sizes, strict=True)]
    assert counts_in(labels, rows["validation"]) == held_out
    assert counts_in(labels, rows["test"]) == held_out


def test_paper_split_puts_every_row_in_exactly_one_part() -> None:
    labels = labels_of([50, 3, 17, 1])
    rows = paper_split(labels, seed=5)
    assert tuple(rows) == PARTS
    assert sorted(np.concatenate(list(rows.values()))) == list(range(71))
    for part in PARTS:
        assert rows[part].dtype == np.int64
        assert np.all(np.diff(rows[part]) > 0)


@pytest.mark.parametrize(
    ("size", "held_out"), [(1, 0), (3, 0), (4, 1), (10, 2), (30, 5), (50, 8), (70, 11), (100, 15)]
)
def test_paper_split_rounds_a_half_up(size: int, held_out: int) -> None:
    rows = paper_split(np.zeros(size, np.int32), seed=0)
    assert [len(rows[part]) for part in PARTS] == [size - 2 * held_out, held_out, held_out]


def test_paper_split_is_the_same_on_every_machine() -> None:
    rows = paper_split(np.array([0, 1] * 10, np.int32), seed=3)
    assert rows["validation"].tolist() == [0, 8, 15, 17]
    assert rows["test"].tolist() == [7, 11, 14, 18]


def test_paper_split_moves_with_its_seed_alone() -> None:
    labels = labels_of([200, 40])
    first, again, other = (paper_split(labels, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first["test"], again["test"])
    assert not np.array_equal(first["test"], other["test"])


def test_a_class_is_split_alike_whatever_the_other_classes_are() -> None:
    alone = paper_split(np.zeros(40, np.int32), seed=0)
    beside = paper_split(np.repeat(np.array([0, 1], np.int32), [40, 60]), seed=0)
    for part in PARTS:
        np.testing.assert_array_equal(alone[part], beside[part][beside[part] < 40])


def test_long_tail_follows_the_exponential_profile() -> None:
    labels = labels_of([1000] * 5)
    kept = long_tail(np.arange(5000), labels, imbalance_ratio=100.0, seed=0)
    assert counts_in(labels, kept) == [1000, 316, 100, 32, 10]
    assert kept.dtype == np.int64
    assert np.all(np.diff(kept) > 0)


def test_long_tail_keeps_one_example_and_never_more_than_there_are() -> None:
    labels = labels_of([90, 100, 5, 20])
    kept = long_tail(np.arange(215), labels, imbalance_ratio=1000.0, seed=0)
    assert counts_in(labels, kept) == [90, 10, 1, 1]


def test_long_tail_leaves_a_class_without_rows_empty() -> None:
    labels = labels_of([20, 5, 20])
    rows = np.flatnonzero(labels != 1)
    kept = long_tail(rows, labels, imbalance_ratio=4.0, seed=0)
    assert counts_in(labels, kept) == [20, 0, 5]


def test_long_tail_of_ratio_one_keeps_every_row() -> None:
    labels = labels_of([10, 12, 3])
    rows = np.arange(0, 25, 2)
    np.testing.assert_array_equal(long_tail(rows, labels, imbalance_ratio=1.0, seed=0), rows)


def test_long_tail_of_a_larger_ratio_keeps_some_of_the_same_rows() -> None:
    labels = labels_of([300] * 4)
    rows = np.arange(1200)
    milder, steeper = (long_tail(rows, labels, ratio, seed=1) for ratio in (10.0, 50.0))
    assert set(steeper) < set(milder)


def test_long_tail_takes_its_rows_from_those_given_and_moves_with_its_seed() -> None:
    labels = labels_of([100] * 3)
    rows = np.arange(0, 300, 3)
    first, again, other = (long_tail(rows, labels, 10.0, seed) for seed in (0, 0, 1))
    assert set(first) < set(rows)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("ratio", [0.5, 0.0, -3.0, float("nan"), float("inf")])
def test_long_tail_refuses_a_ratio_below_one(ratio: float) -> None:
    with pytest.raises(ValueError, match="finite number from 1"):
        long_tail(np.arange(4), np.array([0, 0, 1, 1], np.int32), ratio, seed=0)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="whole number from 0, got -1"):
        paper_split(np.zeros(5, np.int32), seed=-1)


def test_grouped_split_keeps_groups_together_and_classes_in_proportion() -> None:
    labels = labels_of([400, 100, 40])
    groups = np.array([f"lesion {g}" for g in np.random.default_rng(1).integers(0, 300, 540)])
    rows = grouped_split(labels, groups, seed=0)
    assert tuple(rows) == PARTS
    assert sorted(np.concatenate(list(rows.values()))) == list(range(540))
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not set(groups[rows[one]]) & set(groups[rows[other]])
    for part, share in zip(PARTS, (0.7, 0.15, 0.15), strict=True):
        np.testing.assert_allclose(
            counts_in(labels, rows[part]), share * np.bincount(labels), atol=5
        )


def test_grouped_split_depends_on_the_seed_alone() -> None:
    labels = labels_of([60, 30])
    groups = np.array([f"{i // 2}" for i in range(90)])
    first, again, other = (grouped_split(labels, groups, seed)["test"] for seed in (0, 0, 1))
    assert first.tolist() == again.tolist() != other.tolist()


def test_grouped_split_is_the_same_on_every_machine() -> None:
    labels, groups = np.arange(90) % 3, np.array([f"{i // 3 % 25}" for i in range(90)])
    rows = grouped_split(labels.astype(np.int32), groups, seed=0)
    assert sorted({int(group) for group in groups[rows["test"]]}) == [2, 7, 19, 22, 23]


@pytest.mark.parametrize(("groups", "test_groups"), [(20, 3), (19, 3), (7, 1)])
def test_with_few_groups_one_of_seven_is_held_out(groups: int, test_groups: int) -> None:
    labels, names = np.zeros(200, np.int32), np.array([f"{i % groups}" for i in range(200)])
    rows = grouped_split(labels, names, seed=0)
    assert len(set(names[rows["test"]])) in (test_groups, test_groups - 1)
    assert not set(names[rows["test"]]) & set(names[rows["train"]])


def test_grouped_split_of_too_few_groups_is_refused() -> None:
    labels, groups = labels_of([50, 50]), np.array([*"abcdef", *"abcd" * 23, "a", "b"])
    with pytest.raises(ValueError, match="needs seven groups"):
        grouped_split(labels, groups, seed=0)
    dataset = Labels(("a", "b"), np.array([str(i) for i in range(100)]), labels, groups)
    assert possible_splits(dataset) == ["paper"]
    with pytest.raises(UserError, match=r"grouped is not possible: it needs 7 patients .*; choose"):
        make_split(dataset, "grouped", 0)
