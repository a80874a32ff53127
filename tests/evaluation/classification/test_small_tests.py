"""Intervals and tests that hold on small test sets."""

import numpy as np
import pytest

from lmf_jax.evaluation import macro_f1_interval, paired_test
from lmf_jax.evaluation.calibration_error import debiased_calibration_error
from lmf_jax.evaluation.classification.scores import calibration, softmax
from lmf_jax.evaluation.permutation import macro_f1_test, mean_test
from lmf_jax.evaluation.posterior import metric_intervals


def draw(rng, counts, recalls):
    """Draw labels, and predictions that are right with these recalls."""
    labels = np.repeat(np.arange(len(counts)), counts)
    right = rng.random(len(labels)) < np.array(recalls)[labels]
    others = (labels + rng.integers(1, len(counts), len(labels))) % len(counts)
    return labels, np.where(right, labels, others)


def expected_macro_f1(counts, recalls):
    num_classes = len(counts)
    errors = (1 - np.array(recalls)) / (num_classes - 1)
    rates = np.where(np.eye(num_classes, dtype=bool), np.array(recalls)[:, None], errors[:, None])
    confusion = rates * np.array(counts)[:, None]
    hits = confusion.diagonal()
    return (2 * hits / (confusion.sum(0) + confusion.sum(1))).mean()


@pytest.mark.parametrize(
    ("counts", "recalls"),
    [((16, 4), (0.97, 0.9)), ((38, 8, 6, 3, 2, 2, 1), (0.94, 0.6, 0.72, 0.65, 0.75, 0.85, 0.62))],
)
def test_interval_covers_on_small_tests(counts, recalls):
    rng, truth = np.random.default_rng(0), expected_macro_f1(counts, recalls)
    intervals = np.array(
        [
            macro_f1_interval(*draw(rng, counts, recalls), num_classes=len(counts), seed=seed)
            for seed in range(100)
        ]
    )
    covered = (intervals[:, 0] <= truth) & (truth <= intervals[:, 1])
    assert covered.mean() >= 0.9  # the bootstrap's is below 0.8
    assert np.median(intervals[:, 1] - intervals[:, 0]) < 0.5


def test_interval_covers_with_correlated_images_of_patients():
    rng, truth, covered = np.random.default_rng(1), 0.7, []
    for seed in range(60):
        labels = np.repeat([0, 1], [60, 60])
        groups = np.repeat([f"patient {i}" for i in range(40)], 3)
        right = np.repeat(rng.random(40) < truth, 3)  # all images of a patient alike
        low, high = macro_f1_interval(
            labels, np.where(right, labels, 1 - labels), num_classes=2, groups=groups, seed=seed
        )
        covered.append(low <= truth <= high)
    assert np.mean(covered) >= 0.9


@pytest.mark.parametrize("groups", [None, "one"])
@pytest.mark.parametrize("answer", ["right", "wrong", "constant"])
@pytest.mark.parametrize("counts", [(27, 4, 14), (1, 0), (3, 0, 1), (2,) * 30])
def test_intervals_of_degenerate_tests_hold_the_observed_value(counts, answer, groups):
    labels, num_classes = np.repeat(np.arange(len(counts)), counts), len(counts)
    predictions = {
        "right": labels,
        "wrong": (labels + 1) % num_classes,
        "constant": np.zeros_like(labels),
    }[answer]
    if groups is not None:
        groups = np.full(len(labels), groups)
    found = metric_intervals(labels, predictions, num_classes=num_classes, groups=groups)
    for name, (low, high) in found._asdict().items():
        assert np.isfinite(low).all() and np.isfinite(high).all()
        assert (low <= high).all(), name
        smallest = -1 if name == "mcc" else 0
        assert (low >= smallest).all()
        assert name == "support" or (high <= 1 + 1e-12).all()


def test_groups_of_one_image_are_images():
    labels, predictions = draw(np.random.default_rng(0), (20, 10), (0.8, 0.6))
    alone = np.array([f"patient {i:02}" for i in range(30)])
    plain = macro_f1_interval(labels, predictions, num_classes=2)
    assert macro_f1_interval(labels, predictions, num_classes=2, groups=alone) == plain


def test_a_patient_with_several_classes_is_drawn_as_one():
    labels, groups = np.tile([0, 1], 20), np.repeat([f"patient {i}" for i in range(20)], 2)
    right = np.repeat(np.arange(20) % 4 > 0, 2)
    predictions = np.where(right, labels, 1 - labels)
    together = macro_f1_interval(labels, predictions, num_classes=2, groups=groups)
    apart = macro_f1_interval(labels, predictions, num_classes=2)
    assert together[1] - together[0] > 1.2 * (apart[1] - apart[0])


def test_labels_outside_of_the_classes_are_refused():
    with pytest.raises(ValueError, match="labels run from 0 to 2; expected class ids from 0 to 1"):
        macro_f1_interval(np.array([0, 2]), np.array([0, 1]), num_classes=2)


def test_permutation_test_keeps_its_size():
    rng, rejected = np.random.default_rng(2), 0
    for seed in range(300):
        labels, first = draw(rng, (20, 7, 3), (0.9, 0.7, 0.6))
        _, second = draw(rng, (20, 7, 3), (0.9, 0.7, 0.6))
        rejected += paired_test(labels, first, second, num_classes=3, seed=seed) < 0.05
    assert rejected / 300 <= 0.08  # The paired bootstrap rejects 13 %.


def test_permutation_test_is_exact_for_few_units():
    labels = np.zeros(5, int)
    assert paired_test(labels, labels, labels, num_classes=2) == 1
    assert paired_test(labels, labels, labels + 1, num_classes=2) == 2 / 2**5
    pair = np.array(["a", "a", "b", "b", "b"])
    assert paired_test(labels, labels, labels + 1, num_classes=2, groups=pair) == 2 / 2**2
    assert mean_test(np.array([0.1, 0.2, 0.3, 0.0])) == 2 / 2**3


def test_repeated_seeds_change_nothing():
    labels, first = draw(np.random.default_rng(3), (20, 10), (0.9, 0.8))
    _, second = draw(np.random.default_rng(4), (20, 10), (0.6, 0.6))
    alone = macro_f1_test(labels, first[None], second[None], num_classes=2)
    twice = macro_f1_test(labels, np.stack([first, first]), second[None], num_classes=2)
    assert alone == twice


def test_calibration_error_of_a_calibrated_model_covers_zero():
    rng, covered, plain = np.random.default_rng(5), [], []
    for seed in range(60):
        probabilities = softmax(2 * rng.normal(size=(1502, 7)))
        labels = (probabilities.cumsum(axis=1) < rng.random((1502, 1))).sum(axis=1).clip(0, 6)
        found = debiased_calibration_error(calibration(labels, probabilities), seed=seed)
        covered.append(found.low <= 0.0011)  # The binned error of a million examples.
        plain.append(found.observed)
        assert found.low <= found.value <= found.high
    assert np.mean(covered) >= 0.9
    assert np.mean(plain) > 0.02


def test_calibration_error_of_an_overconfident_model_is_found():
    confidence = np.full((400, 2), [0.9, 0.1])
    labels = (np.arange(400) % 10 >= 6).astype(int)  # Six of ten are correct.
    found = debiased_calibration_error(calibration(labels, confidence))
    assert found.value == pytest.approx(0.3, abs=0.01)
    assert found.low < 0.3 < found.high


def test_a_lucky_calibration_error_has_an_upper_end():
    confidence = np.full((400, 2), [0.9, 0.1])
    labels = (np.arange(400) % 10 >= 9).astype(int)  # Nine of ten are correct.
    found = debiased_calibration_error(calibration(labels, confidence))
    assert found.observed == pytest.approx(0, abs=1e-6)
    # The standard error of the accuracy is 0.015.
    assert found.low == found.value == 0 and 0.015 < found.high < 0.06


def test_a_model_that_is_sure_and_right_has_no_calibration_error():
    probabilities = softmax(np.float32([[100, 0, 0]] * 5))
    error = debiased_calibration_error(calibration(np.zeros(5, int), probabilities))
    assert error == (0, 0, 0, 0)
