"""AUROC, average precision and calibration against scikit-learn and against their definitions."""

import jax
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn import metrics as sklearn_metrics

from lmf_jax.evaluation.classification.scores import (
    calibration,
    expected_calibration_error,
    has_counterexamples,
    log_odds,
    rank_by_class,
    ranking_metrics,
    reliability_bins,
    score,
    softmax,
)

NUM_CLASSES = 3


def draw_model(n=200, num_classes=NUM_CLASSES, seed=0, decimals=None):
    """Return labels and logits of an accurate model; rounded logits have ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, n)
    logits = rng.normal(size=(n, num_classes)) + 1.5 * np.eye(num_classes)[labels]
    return labels, logits if decimals is None else logits.round(decimals)


# Probabilities of few values, so that most examples tie with others.
PARTS = st.lists(
    st.tuples(
        st.integers(0, NUM_CLASSES - 1),
        st.tuples(*[st.sampled_from([0.0, 0.25, 0.5, 1.0])] * NUM_CLASSES),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=200, deadline=None)
@given(PARTS)
@example([(0, (0.5, 0.5, 0.5))])  # one class alone
@example([(0, (0.5, 0.0, 0.0)), (1, (0.5, 0.0, 0.0))])  # all tie, and class 2 is absent
def test_ranking_metrics_equal_scikit_learn(part):
    labels = np.array([label for label, _ in part])
    probabilities = np.array([row for _, row in part])
    metrics = ranking_metrics(rank_by_class(labels, probabilities), np.ones(len(labels)))
    defined = has_counterexamples(labels, NUM_CLASSES)
    expected = np.zeros((2, NUM_CLASSES))
    for class_id in np.flatnonzero(defined):
        one_against_the_rest = labels == class_id, probabilities[:, class_id]
        expected[0, class_id] = sklearn_metrics.roc_auc_score(*one_against_the_rest)
        expected[1, class_id] = sklearn_metrics.average_precision_score(*one_against_the_rest)
    np.testing.assert_allclose([metrics.auroc, metrics.average_precision], expected, atol=1e-12)
    macro = expected[:, defined].mean(axis=1) if defined.any() else [0, 0]
    found = metrics.macro_auroc, metrics.macro_average_precision
    np.testing.assert_allclose(found, macro, atol=1e-12)


@pytest.mark.parametrize("decimals", [None, 0])
def test_weights_equal_repeated_examples(decimals):
    labels, logits = draw_model(decimals=decimals)
    probabilities = softmax(logits)
    weights = np.random.default_rng(1).integers(0, 4, len(labels))
    repeated = np.repeat(np.arange(len(labels)), weights)
    once = np.ones(len(repeated))

    def all_metrics(rankings, calibrated, weights):
        return ranking_metrics(rankings, weights), expected_calibration_error(calibrated, weights)

    arrays = rank_by_class(labels, probabilities), calibration(labels, probabilities)
    repeats = labels[repeated], probabilities[repeated]
    expected = all_metrics(rank_by_class(*repeats), calibration(*repeats), once)
    found = all_metrics(*arrays, weights.astype(float))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), found, expected)
    on_device = jax.jit(all_metrics)(*arrays, weights.astype(np.float32))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), on_device, expected)


def test_faultless_and_reversed_rankings_are_exactly_one_and_zero():
    labels = np.repeat([0, 1], [7, 4])
    probabilities = np.eye(2)[labels] * 0.9
    once = np.ones(11)
    faultless = ranking_metrics(rank_by_class(labels, probabilities), once)
    assert faultless.auroc.tolist() == faultless.average_precision.tolist() == [1, 1]
    assert ranking_metrics(rank_by_class(labels, -probabilities), once).auroc.tolist() == [0, 0]


def test_calibration_error_of_a_case_by_hand():
    # Bins (9/15, 10/15]: 2 examples, one right; (14/15, 1]: 2 examples, both right.
    probabilities = np.array([[0.62, 0.38], [0.64, 0.36], [0.04, 0.96], [0.0, 1.0]])
    labels = np.array([0, 1, 1, 1])
    expected = 2 / 4 * abs(0.5 - 0.63) + 2 / 4 * abs(1 - 0.98)
    error = expected_calibration_error(calibration(labels, probabilities), np.ones(4))
    assert error == pytest.approx(expected)


def test_reliability_bins_give_the_calibration_error():
    labels, logits = draw_model()
    probabilities = softmax(logits)
    bins = reliability_bins(labels, probabilities)
    assert bins.counts.sum() == len(labels)
    gaps = np.abs(bins.accuracy - bins.confidence)
    expected = (bins.counts * gaps).sum() / len(labels)
    assert score(labels, logits).ece == pytest.approx(expected)
    filled = bins.counts > 0
    assert np.all(bins.confidence[filled] > bins.edges[:-1][filled])
    assert np.all(bins.confidence[filled] <= bins.edges[1:][filled])


def test_a_confidence_on_a_border_belongs_to_the_bin_below():
    probabilities = np.array([[1.0, 0.0], [0.2, 0.8]])  # 12/15
    assert np.flatnonzero(reliability_bins(np.array([0, 0]), probabilities).counts).tolist() == [
        11,
        14,
    ]


def test_softmax_equals_scipy_and_keeps_infinite_logits_defined():
    _, logits = draw_model()
    np.testing.assert_allclose(softmax(logits), special.softmax(logits, axis=1), rtol=1e-12)
    infinite = np.array([[np.inf, 0, np.inf], [-np.inf, 0, -np.inf], [-np.inf] * 3], np.float32)
    expected = [[0.5, 0, 0.5], [0, 1, 0], [1 / 3] * 3]
    np.testing.assert_allclose(softmax(infinite), expected)


def test_ranking_goes_on_where_probabilities_round_to_one():
    logits = np.array([[60.0, 0], [80, 0], [40, 0], [50, 0]])
    labels = np.array([0, 0, 1, 1])
    assert score(labels, logits).ranking.auroc.tolist() == [1, 1]


def test_log_odds_order_as_probabilities_do():
    logits = np.random.default_rng(0).normal(size=(50, 4))
    shares = softmax(logits)
    np.testing.assert_allclose(log_odds(logits), np.log(shares / (1 - shares)), rtol=1e-9)
    assert np.isfinite(log_odds(np.array([[np.inf, 0, -np.inf]]))).all()
