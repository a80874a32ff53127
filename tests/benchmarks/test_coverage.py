"""The simulations of ``python -m benchmarks.coverage``."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from benchmarks import coverage
from benchmarks.coverage import (
    Scenario,
    SimulatedTest,
    draw_predictions,
    draw_test,
    measure,
    measure_calibration,
    measure_power,
    measure_segmentation,
    scenarios,
    stratified_bootstrap,
    until_precise,
)

SCENARIO = Scenario("", "40/14/6", (40, 14, 6), (0.9, 0.7, 0.6), 0.5)


def test_errors_fall_half_by_frequency_and_half_evenly():
    expected = [[0.9, 0.1 * (0.35 + 0.25), 0.1 * (0.15 + 0.25)]]
    np.testing.assert_allclose(SCENARIO.rates()[:1], expected)
    for scenario in scenarios():
        np.testing.assert_allclose(scenario.rates().sum(axis=1), 1)


@pytest.mark.parametrize("clusters", ["none", "lesion", "patient"])
def test_predictions_have_the_expected_confusion_matrix(clusters):
    scenario = Scenario("", "", SCENARIO.counts, SCENARIO.recalls, 0.5, clusters)
    rng = np.random.default_rng(0)
    confusion = np.zeros((3, 3))
    for _ in range(400):
        test = draw_test(scenario, rng)
        predictions = draw_predictions(scenario, test, rng)
        confusion += sklearn_metrics.confusion_matrix(test.labels, predictions, labels=range(3))
        assert np.bincount(test.labels).tolist() == [40, 14, 6]
    found = confusion / confusion.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, scenario.rates(), atol=0.04)


def test_images_of_a_cluster_are_right_together():
    scenario = Scenario("", "", (300, 300), (0.6, 0.6), 0.5, "patient")
    rng = np.random.default_rng(0)
    test = draw_test(scenario, rng)
    right = draw_predictions(scenario, test, rng) == test.labels
    names, sizes = np.unique(test.groups, return_counts=True)
    assert sizes.max() == 6 and len(np.unique(test.labels[test.groups == names[0]])) <= 2
    pair = [right[test.groups == name][:2] for name in names[sizes > 1]]
    assert np.corrcoef(np.transpose(pair))[0, 1] > 0.15


def test_bootstrap_draws_each_class_by_itself():
    labels = np.repeat([0, 1], [16, 4])
    predictions = np.where(np.arange(20) % 5 == 0, 1 - labels, labels)
    rng = np.random.default_rng(1)
    test = SimulatedTest(labels, None)
    drawn = stratified_bootstrap(test, predictions[None], 2, rng, num_resamples=500)
    rows = np.concatenate([rng.integers(16, size=(500, 16)), rng.integers(16, 20, (500, 4))], 1)
    expected = [
        sklearn_metrics.f1_score(labels[row], predictions[row], average="macro") for row in rows
    ]
    np.testing.assert_allclose(
        np.quantile(drawn, [0.05, 0.5, 0.95]), np.quantile(expected, [0.05, 0.5, 0.95]), atol=0.03
    )


def test_simulations_go_on_until_the_standard_error_is_small(monkeypatch):
    monkeypatch.setattr(coverage, "STANDARD_ERROR", 0.02)
    found = until_precise(lambda number: {"half": number % 2 == 0, "width": number}, ["half"])
    assert found == {"simulations": 800, "half": 0.5, "width": 399.5}


def test_every_table_has_a_row(monkeypatch):
    monkeypatch.setattr(coverage, "STANDARD_ERROR", 0.1)
    monkeypatch.setattr(coverage, "BLOCK", 25)
    row = measure(SCENARIO)
    assert row["coverage"] > 0.8 and 0 < row["width"] < 0.5
    assert measure_power(("14/6", (0.5, 0.5), (1.0, 1.0)))["power"] > 0.5
    assert measure_segmentation(5)["size"] == 0, "five cases cannot differ"
    assert measure_calibration((200, 1.0))["true ECE"] == pytest.approx(0, abs=1e-6)
