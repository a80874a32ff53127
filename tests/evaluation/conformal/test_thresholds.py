import math
from fractions import Fraction

import numpy as np
import pytest

from lmf_jax.evaluation.conformal.coverage import class_coverage
from lmf_jax.evaluation.conformal.thresholds import (
    class_threshold,
    fit_sets,
    unit_shares,
    units_needed,
)


def threshold(probability, level, groups=None):
    """The threshold of a class that all images have."""
    return class_threshold(np.ones(len(probability), bool), probability, level=level, groups=groups)


def random_sets(num_images, num_classes, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num_images)
    logits = rng.normal(size=(num_images, num_classes)) + 2 * np.eye(num_classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels[:, None] == np.arange(num_classes), probabilities


@pytest.mark.parametrize("level", [0.5, 0.55, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("n", [19, 20, 37, 99, 1000])
def test_without_groups_the_threshold_is_the_textbook_quantile(level, n):
    probability = np.random.default_rng(n).random(n)
    rank = math.ceil(Fraction(str(level)) * (n + 1))
    scores = np.sort(1 - probability)
    assert threshold(probability, level).value == 1 - scores[rank - 1]


@pytest.mark.parametrize(
    ("level", "units"), [(0.5, 1), (0.75, 3), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)]
)
def test_a_level_is_promised_from_the_unit_on_at_which_k_plus_1_times_alpha_is_1(level, units):
    assert units_needed(level) == units
    probability = np.linspace(0.2, 0.8, units)
    enough = threshold(probability, level)
    assert enough.promised and enough.value == 0.2 and enough.units == units
    too_few = threshold(probability[1:], level)
    assert not too_few.promised and too_few.units == units - 1


def test_images_of_one_lesion_are_one_unit():
    groups = np.array(["a"] * 50 + ["b"] * 50)
    assert threshold(np.linspace(0, 1, 100), 0.9, groups).units == 2
    assert not threshold(np.linspace(0, 1, 100), 0.9, groups).promised
    assert threshold(np.linspace(0, 1, 100), 0.9, np.array([""] * 100)).units == 100


def test_each_lesion_has_the_same_weight_however_many_images_it_has():
    # Ten lesions: nine with one image, and one with a hundred, of small probability.
    groups = np.array([*map(str, range(9)), *["large"] * 100])
    probability = np.array([*np.linspace(0.5, 0.9, 9), *np.full(100, 0.01)])
    assert threshold(probability, 0.8, groups).value == 0.5  # 9 of 11 is more than 0.8
    assert threshold(probability, 0.82, groups).value == 0.01
    # At 0.9, 9.9 of 11 are needed: the nine, and 90 of the hundred.
    probability[9:] = np.linspace(0.4, 0.1, 100)
    assert threshold(probability, 0.9, groups).value == probability[9 + 89]
    assert unit_shares(np.array([3, 7, 3, 3])).tolist() == [1 / 3, 1, 1 / 3, 1 / 3]


@pytest.mark.parametrize("n", [9, 10, 50])
def test_the_coverage_of_independent_images_is_exact(n):
    # The coverage of a threshold t of uniform probabilities is 1 - t: no test images are needed.
    rng = np.random.default_rng(n)
    covered = [1 - threshold(rng.random(n), 0.9).value for _ in range(1500)]
    expected = math.ceil(Fraction("0.9") * (n + 1)) / (n + 1)
    error = np.std(covered) / len(covered) ** 0.5
    assert abs(np.mean(covered) - expected) < 4 * error
    assert expected >= 0.9


def test_the_coverage_of_a_new_lesion_holds_where_plain_quantiles_of_images_fail():
    rng = np.random.default_rng(0)
    by_lesion, by_image = [], []
    for _ in range(1500):
        # Large lesions are easy, so that images alone promise too much for a new lesion.
        sizes = np.append(
            rng.permutation([1] * 10 + [20] * 2), rng.choice([1, 20], p=[5 / 6, 1 / 6])
        )
        center = np.where(sizes == 1, 0.0, 3.0) + rng.normal(size=13)
        names = np.repeat(np.arange(13), sizes)
        probability = 1 / (1 + np.exp(-center[names] - 0.5 * rng.normal(size=len(names))))
        new = names == 12
        for found, groups in ((by_lesion, names[~new].astype(str)), (by_image, None)):
            value = threshold(probability[~new], 0.9, groups).value
            found.append(float((probability[new] >= value).mean()))
    error = np.std(by_lesion) / len(by_lesion) ** 0.5
    assert np.mean(by_lesion) > 0.9 - 3 * error
    assert np.mean(by_image) < 0.88


@pytest.mark.parametrize("num_classes", [2, 30])
def test_every_class_is_covered_however_rare_it_is(num_classes):
    rng = np.random.default_rng(0)
    hits = np.zeros(num_classes)
    counts = np.linspace(12, 40, num_classes).astype(int) + 1
    rounds = 100
    for _ in range(rounds):
        labels = np.repeat(np.arange(num_classes), counts)
        logits = rng.normal(size=(len(labels), num_classes)) + np.eye(num_classes)[labels]
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        is_class = labels[:, None] == np.arange(num_classes)
        new = np.append(np.diff(labels) > 0, True)  # the last image of each class
        sets = fit_sets(is_class[~new], probabilities[~new], level=0.9)
        assert all(threshold.promised for threshold in sets.classes)
        hits += (sets.contains(probabilities[new]) & is_class[new]).any(axis=1)
    assert (hits / rounds > 0.9 - 4 * (0.9 * 0.1 / rounds) ** 0.5).all()


@pytest.mark.parametrize("num_classes", [2, 7, 30])
def test_sets_only_grow_with_the_level_also_where_a_class_is_refused(num_classes):
    is_class, probabilities = random_sets(40 * num_classes, num_classes)
    _, new = random_sets(500, num_classes, seed=1)
    smaller = None
    was_refused = set()
    for level in (0.1, 0.5, 0.8, 0.9, 0.95, 0.97, 0.975, 0.98, 0.99, 0.999, 0.99999):
        fitted = fit_sets(is_class, probabilities, level=level)
        was_refused |= {threshold.promised for threshold in fitted.classes}
        sets = fitted.contains(new)
        assert smaller is None or (sets >= smaller).all()
        smaller = sets
    assert was_refused == {True, False}
    assert smaller.all()  # nothing can be excluded at such a level


@pytest.mark.parametrize("rare", [(0.02, 0.9), (0.98, 0.99)])
def test_a_refused_class_has_the_lower_of_its_own_and_the_pooled_threshold(rare):
    is_class = np.repeat(np.eye(2, dtype=bool), [100, 2], axis=0)
    of_second = np.concatenate([np.linspace(0, 0.4, 100), rare])
    fitted = fit_sets(is_class, np.stack([1 - of_second, of_second], axis=1), level=0.9)
    common, refused = fitted.classes
    assert common.promised and not refused.promised and refused.units == 2
    assert 0.5 < fitted.pooled.value < 0.7
    assert refused.value == min(rare[0], fitted.pooled.value)


def test_a_class_without_images_is_refused_and_has_the_pooled_threshold():
    is_class, probabilities = random_sets(100, 3)
    is_class[:, 2] = False
    fitted = fit_sets(is_class, probabilities, level=0.8)
    assert [threshold.promised for threshold in fitted.classes] == [True, True, False]
    assert fitted.classes[2].units == 0
    assert fitted.classes[2].value == fitted.pooled.value


def test_with_too_few_images_in_all_every_class_is_in_every_set():
    is_class, probabilities = random_sets(5, 3)
    fitted = fit_sets(is_class, probabilities, level=0.9)
    assert not fitted.pooled.promised
    assert fitted.contains(np.array([[1.0, 0.0, 0.0]])).all()


def test_equal_probabilities_are_in_the_set_together():
    tied = np.array([0.9] * 10 + [0.4] * 10)
    fitted = threshold(tied, 0.8)
    assert fitted.value == 0.4
    assert threshold(np.array([0.9] * 19 + [0.4]), 0.8).value == 0.9
    constant = threshold(np.full(30, 0.25), 0.9)
    assert constant.promised and constant.value == 0.25
    measured = class_coverage(np.ones(8, bool), np.full(8, 0.25) >= constant.value, np.full(8, 4))
    assert measured.coverage == 1.0


def test_the_order_of_the_images_does_not_matter():
    is_class, probabilities = random_sets(200, 4)
    groups = np.random.default_rng(2).integers(0, 80, 200).astype(str)
    order = np.random.default_rng(3).permutation(200)
    assert fit_sets(is_class, probabilities, level=0.8, groups=groups) == fit_sets(
        is_class[order], probabilities[order], level=0.8, groups=groups[order]
    )


def test_images_may_have_several_classes():
    rng = np.random.default_rng(0)
    is_class, probabilities = rng.random((300, 3)) < 0.4, rng.random((300, 3))
    fitted = fit_sets(is_class, probabilities, level=0.9)
    for class_id in range(3):
        alone = class_threshold(is_class[:, class_id], probabilities[:, class_id], level=0.9)
        assert fitted.classes[class_id] == alone
    assert fitted.pooled.units == is_class.any(axis=1).sum()


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1, 1.5])
def test_impossible_probabilities_are_refused(value):
    is_class, probabilities = random_sets(50, 2)
    fitted = fit_sets(is_class, probabilities, level=0.9)
    probabilities[3, 1] = value
    with pytest.raises(ValueError, match="1 probabilities are NaN or outside"):
        fit_sets(is_class, probabilities, level=0.9)
    with pytest.raises(ValueError, match="1 probabilities are NaN or outside"):
        fitted.contains(probabilities)


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, 2.0, np.nan])
def test_impossible_levels_are_refused(level):
    with pytest.raises(ValueError, match="expected a number between 0 and 1"):
        threshold(np.full(50, 0.5), level)


def test_probabilities_of_another_number_of_classes_are_refused():
    fitted = fit_sets(*random_sets(50, 3), level=0.8)
    with pytest.raises(ValueError, match="probabilities of 1 classes; expected those of the 3"):
        fitted.contains(np.ones((4, 1)))
