"""Intervals and the paired test of the mAP, by image and by patient."""

import numpy as np
import pytest

from lmf_jax.evaluation.multilabel.metrics import label_f1
from lmf_jax.evaluation.multilabel.scores import score_labels
from lmf_jax.evaluation.multilabel.statistics import (
    compare_mean_average_precision,
    f1_intervals,
    mean_average_precision_test,
    ranking_intervals,
    strata,
)


def drawn(seed, n=60, skill=1.5):
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, 3)) < [0.5, 0.3, 0.15]).astype(int)
    labels[:2] = [[0, 0, 0], [1, 1, 1]]
    logits = (rng.normal(size=(n, 3)) + skill * labels).astype(np.float32)
    return labels, logits, rng


def test_a_stratum_is_the_rarest_positive_label():
    labels = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, -1], [1, -1, 0]])
    np.testing.assert_array_equal(strata(labels), [0, 1, 2, 3, 0])


def test_intervals_contain_the_metrics_and_grow_with_dependent_images():
    labels, logits, _ = drawn(0)
    scores = score_labels(labels, logits)
    settings = {"num_resamples": 400}
    by_image = ranking_intervals(labels, logits, **settings)
    for found, (low, high) in zip(scores, by_image, strict=True):
        assert (low < found).all() and (found < high).all()
    thrice = ranking_intervals(np.repeat(labels, 3, 0), np.repeat(logits, 3, 0), **settings)
    patients = np.repeat(np.arange(60), 3).astype(str)
    grouped = ranking_intervals(
        np.repeat(labels, 3, 0), np.repeat(logits, 3, 0), groups=patients, **settings
    )
    widths = [np.diff(x.mean_average_precision)[0] for x in (by_image, thrice, grouped)]
    assert widths[1] < 0.8 * widths[0]  # images counted as independent that are not
    assert abs(widths[2] / widths[0] - 1) < 0.15


def test_an_undefined_label_has_no_interval_and_the_others_do():
    labels, logits, _ = drawn(1)
    labels[:, 1] = 0
    found = ranking_intervals(labels, logits, num_resamples=50)
    np.testing.assert_array_equal(np.isnan(found.auroc), [[False, True, False]] * 2)
    assert not np.isnan(found.mean_auroc).any()


def test_the_test_finds_a_better_model_and_no_difference_between_equal_ones():
    labels, good, rng = drawn(2)
    poor = rng.normal(size=good.shape).astype(np.float32)
    found = compare_mean_average_precision(labels, good, poor, num_resamples=400)
    assert found.low > 0 and found.p_value < 0.001
    difference = score_labels(labels, good)[1] - score_labels(labels, poor)[1]
    np.testing.assert_allclose(found.difference, difference, rtol=1e-12)
    swapped = compare_mean_average_precision(labels, poor, good, num_resamples=400)
    np.testing.assert_allclose(swapped.low, -found.high, rtol=1e-6)
    assert mean_average_precision_test(labels, good, good * 3 + 1) == 1


def test_exchanges_of_few_patients_are_enumerated_exactly():
    labels, first, rng = drawn(3, n=12)
    second = rng.normal(size=first.shape).astype(np.float32)
    groups = np.array([str(row // 3) for row in range(12)])
    ranks = [x.argsort(0).argsort(0).astype(float) for x in (first, second)]

    def difference(swap):
        swap = np.repeat(swap, 3)[:, None]
        sides = np.where(swap, ranks[1], ranks[0]), np.where(swap, ranks[0], ranks[1])
        return np.subtract(*[score_labels(labels, side).mean_average_precision for side in sides])

    swaps = (np.arange(16)[:, None] >> np.arange(4) & 1).astype(bool)
    differences = np.array([difference(swap) for swap in swaps])
    expected = np.mean(abs(differences) >= abs(differences[0]) - 1e-6)
    assert mean_average_precision_test(labels, first, second, groups=groups) == expected


def test_missing_labels_do_not_matter():
    labels, first, rng = drawn(4, n=20)
    second = rng.normal(size=first.shape).astype(np.float32)
    labels[5:9, 0] = -1
    pair = [first.copy(), second.copy()]
    expected = mean_average_precision_test(labels, *pair)
    for logits in pair:
        logits[5:9, 0] = np.nan
    assert mean_average_precision_test(labels, *pair) == expected


@pytest.mark.slow
def test_the_size_of_the_test_is_nominal():
    rejections = 0
    for seed in range(60):
        labels, first, rng = drawn(seed, n=40)
        second = (rng.normal(size=first.shape) + 1.5 * labels).astype(np.float32)
        rejections += mean_average_precision_test(labels, first, second * 7) < 0.1
    assert rejections <= 13  # 6 are expected; more than 13 happen in 3 of 1,000 cases


def test_without_a_defined_label_there_is_no_comparison():
    found = compare_mean_average_precision(np.zeros((4, 2), int), np.ones((4, 2)), np.ones((4, 2)))
    assert np.isnan(found).all()


def test_intervals_of_f1_contain_it_and_are_those_of_a_bootstrap():
    labels, logits, rng = drawn(5)
    labels[3, 0] = -1
    predictions = logits > 0.7
    found = label_f1(labels, predictions)
    ends = f1_intervals(labels, predictions, num_resamples=1000)
    for value, (low, high) in zip(found, ends, strict=True):
        assert (low <= value).all() and (value <= high).all()
    of_strata = [np.flatnonzero(strata(labels) == stratum) for stratum in range(4)]
    drawn_rows = [
        np.concatenate([rng.choice(rows, len(rows)) for rows in of_strata]) for _ in range(1000)
    ]
    macro = [label_f1(labels[rows], predictions[rows]).macro for rows in drawn_rows]
    np.testing.assert_allclose(ends.macro, np.quantile(macro, [0.025, 0.975]), atol=0.03)


def test_intervals_of_f1_draw_patients_and_take_zero_where_nothing_is_predicted():
    labels, logits, _ = drawn(6)
    thrice = [np.repeat(x, 3, 0) for x in (labels, logits > 0.7)]
    patients = np.repeat(np.arange(60), 3).astype(str)
    widths = [
        np.diff(f1_intervals(*thrice, groups=groups, num_resamples=400).macro)[0]
        for groups in (None, patients)
    ]
    assert widths[0] < 0.8 * widths[1]
    nothing = f1_intervals(labels, np.zeros(labels.shape, bool), num_resamples=50)
    assert all((ends == 0).all() for ends in nothing)
