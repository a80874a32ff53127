"""The change of a model from its own test to another dataset, and its parts."""

import numpy as np
import pytest

from lmf_jax.evaluation.classification.transfer import Outcomes, explain_transfer


def outcomes(confusion, groups=None):
    """Return labels and predictions with this confusion matrix."""
    confusion = np.asarray(confusion)
    cells = np.repeat(np.arange(confusion.size), confusion.ravel())
    return Outcomes(cells // len(confusion), cells % len(confusion), groups)


def test_equal_recalls_leave_the_prevalence_as_the_only_cause():
    own = outcomes([[90, 10], [5, 5]])  # Recalls 0.9 and 0.5.
    other = outcomes([[9, 1], [50, 50]])
    found = explain_transfer(own, other, num_classes=2)
    np.testing.assert_allclose(found.accuracy.own, 95 / 110)
    np.testing.assert_allclose(found.accuracy.other, 59 / 110)
    np.testing.assert_allclose(found.by_prevalence, 59 / 110 - 95 / 110)
    np.testing.assert_allclose(found.within_classes.difference, 0, atol=1e-12)
    assert found.within_classes.low < 0 < found.within_classes.high


def test_equal_prevalence_leaves_the_recalls_as_the_only_cause():
    own, other = outcomes([[90, 10], [10, 90]]), outcomes([[60, 40], [10, 90]])
    found = explain_transfer(own, other, num_classes=2)
    assert found.by_prevalence == pytest.approx(0)
    assert found.within_classes.difference == pytest.approx(-0.15)
    assert found.recall[0].difference == pytest.approx(-0.3)
    assert found.recall[0].high < 0 < found.recall[1].high
    assert found.balanced_accuracy.difference == pytest.approx(-0.15)


def test_the_parts_of_the_accuracy_add_up():
    rng = np.random.default_rng(1)
    own, other = (outcomes(rng.integers(0, 20, (4, 4))) for _ in range(2))
    found = explain_transfer(own, other, num_classes=4)
    parts = found.by_prevalence + found.within_classes.difference
    assert parts == pytest.approx(found.accuracy.difference)


def test_a_class_without_images_in_one_test_is_left_out_and_has_no_recall():
    own, other = (
        outcomes([[8, 2, 0], [1, 9, 0], [0, 0, 0]]),
        outcomes([[5, 0, 5], [0, 0, 0], [1, 0, 9]]),
    )
    found = explain_transfer(own, other, num_classes=3)
    assert found.shared.tolist() == [True, False, False]
    assert found.recall[1] is None
    assert found.recall[2] is None
    assert found.accuracy.own == pytest.approx(0.8)
    assert found.accuracy.other == pytest.approx(0.5)
    np.testing.assert_allclose(found.other_prevalence, [0.5, 0, 0.5])


def test_tests_without_a_common_class_cannot_be_compared():
    own, other = outcomes([[3, 0], [0, 0]]), outcomes([[0, 0], [0, 3]])
    assert explain_transfer(own, other, num_classes=2) is None


def test_groups_widen_the_interval():
    """Ten lesions of ten images each tell less than a hundred independent images."""
    labels = np.zeros(100, int)
    predictions = np.repeat([0, 1] * 5, 10)
    lesions = np.repeat([f"lesion {i}" for i in range(10)], 10)
    many = outcomes([[500, 500], [0, 0]])
    apart, together = (
        explain_transfer(many, Outcomes(labels, predictions, groups), num_classes=2).accuracy
        for groups in (None, lesions)
    )
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_one_image_gives_an_interval():
    found = explain_transfer(outcomes([[1]]), outcomes([[1]]), num_classes=1)
    assert found.accuracy.difference == 0
    assert found.accuracy.low <= 0 <= found.accuracy.high


def test_the_interval_covers_the_true_change():
    """Over repeated tests of 60 images, the 95 % interval contains the change of the recall."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        own, other = (
            Outcomes(np.zeros(60, int), (rng.random(60) > recall).astype(int), None)
            for recall in (0.9, 0.7)
        )
        change = explain_transfer(own, other, num_classes=2).accuracy
        covered += change.low <= -0.2 <= change.high
    assert covered >= 88
