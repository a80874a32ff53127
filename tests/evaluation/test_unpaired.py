"""The permutation test between a subgroup and the rest."""

from itertools import combinations

import numpy as np
import pytest

from lmf_jax.evaluation.unpaired import UnpairedDifference, unpaired_test


def test_the_difference_is_that_of_the_macro_recall_over_the_classes_of_both() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    correct = np.array([1, 0, 1, 1, 0, 1, 1, 1])
    inside = np.array([1, 1, 0, 0, 1, 0, 0, 1], bool)
    found = unpaired_test(correct, inside, labels)
    assert found.difference == pytest.approx(((1 / 2 - 1) + (0 - 1)) / 2)  # class 2 is on one side
    assert 0 < found.p_value <= 1


def test_the_p_value_is_that_of_all_assignments_within_the_classes() -> None:
    labels = np.repeat([0, 1], 6)
    scores = np.array([0.9, 0.8, 0.7, 0.2, 0.1, 0.4, 0.6, 0.9, 0.5, 0.3, 0.2, 0.8])
    inside = np.zeros(12, bool)
    inside[[0, 1, 7, 11]] = True

    def difference(first: tuple[int, ...], second: tuple[int, ...]) -> float:
        chosen = np.zeros(12, bool)
        chosen[[*first, *second]] = True
        parts = [(chosen & (labels == c), ~chosen & (labels == c)) for c in (0, 1)]
        return float(np.mean([scores[a].mean() - scores[b].mean() for a, b in parts]))

    observed = difference((0, 1), (7, 11))
    everything = [
        difference(first, second)
        for first in combinations(range(6), 2)
        for second in combinations(range(6, 12), 2)
    ]
    exact = np.mean(np.abs(everything) >= abs(observed) - 1e-9)
    found = unpaired_test(scores, inside, labels, num_permutations=20_000)
    assert found.difference == pytest.approx(observed)
    assert found.p_value == pytest.approx(exact, abs=0.006)


def test_images_change_sides_within_their_class_alone() -> None:
    labels = np.array([0, 0, *[1] * 40])
    scores = np.array([1.0, 0.0, *[0.5] * 40])
    inside = np.arange(42) % 2 == 0
    # Whichever image of class 0 is inside, the size of the difference is the same.
    assert unpaired_test(scores, inside, labels) == UnpairedDifference(0.5, 1.0)


@pytest.mark.parametrize("kind", ["images", "lesions", "eyes", "cases"])
def test_of_equal_subgroups_no_more_than_a_twentieth_is_told_apart(kind: str) -> None:
    rng = np.random.default_rng(7)
    p_values = []
    for seed in range(300):
        n, groups = 120, None
        labels = rng.choice(3, n, p=[0.7, 0.2, 0.1])
        inside = rng.random(n) < np.array([0.2, 0.5, 0.6])[labels]  # another mix of classes
        scores = rng.random(n) < np.array([0.9, 0.6, 0.4])[labels]
        if kind == "lesions":  # three equal images each
            labels, inside, scores = (np.repeat(v[:40], 3) for v in (labels, inside, scores))
            groups = np.repeat([f"lesion {i}" for i in range(40)], 3)
        elif kind == "eyes":  # one of each patient is in the subgroup
            labels = np.repeat(labels[:60], 2)
            groups = np.repeat([f"patient {i}" for i in range(60)], 2)
            inside = np.arange(n) % 2 == 0
            scores = rng.random(n) < np.array([0.9, 0.6, 0.4])[labels]
        elif kind == "cases":
            scores, labels = rng.random(n), np.zeros(n, int)
        found = unpaired_test(
            scores, inside, labels, groups=groups, num_permutations=199, seed=seed
        )
        p_values.append(found.p_value)
    assert np.mean(np.array(p_values) <= 0.05) < 0.09


def test_a_real_difference_is_found_and_does_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(0)
    labels, inside = rng.choice(2, 300), rng.random(300) < 0.4
    scores = rng.random(300) < np.where(inside, 0.5, 0.9)
    groups = np.array([f"lesion {i // 2}" if i < 100 else "" for i in range(300)])
    found = unpaired_test(scores, inside, labels, groups=groups)
    assert found.difference < -0.2
    assert found.p_value < 0.001
    order = rng.permutation(300)
    again = unpaired_test(scores[order], inside[order], labels[order], groups=groups[order])
    assert again == pytest.approx(found, abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "inside"),
    [([0, 0, 1, 1], [1, 1, 0, 0]), ([0, 0, 0, 0], [1, 1, 1, 1]), ([0, 1, 2, 3], [1, 0, 1, 0])],
)
def test_without_a_class_on_both_sides_there_is_no_difference(labels, inside) -> None:
    found = unpaired_test(np.ones(4), np.array(inside, bool), np.array(labels))
    assert found == UnpairedDifference(None, None)


def test_equal_scores_have_p_one() -> None:
    inside = np.arange(30) % 3 == 0
    assert unpaired_test(np.ones(30), inside, np.arange(30) % 2) == UnpairedDifference(0.0, 1.0)
