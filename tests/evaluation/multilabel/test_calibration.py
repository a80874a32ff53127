"""Temperatures of labels: fitted on validation, stored by name."""

import numpy as np
import pytest
from scipy import optimize, special
from sklearn import metrics as sk

from lmf_jax.errors import UserError
from lmf_jax.evaluation.calibration import write_calibration
from lmf_jax.evaluation.multilabel import (
    fit_label_calibrator,
    label_probability_metrics,
    read_label_calibrator,
    summarize_label_calibration,
)

NAMES = ["a", "b", "c"]


def drawn(temperatures, n=3000):
    rng = np.random.default_rng(0)
    calibrated = rng.normal(size=(n, 3)) - 1
    labels = (rng.random((n, 3)) < special.expit(calibrated)).astype(int)
    labels[rng.random((n, 3)) < 0.1] = -1
    logits = calibrated * temperatures
    return labels, np.where(labels == -1, np.nan, logits)


def test_the_temperature_minimizes_the_log_loss():
    labels, logits = drawn(2.0)
    found = fit_label_calibrator(labels, logits)
    known = labels >= 0

    def log_loss(temperature):
        return sk.log_loss(labels[known], special.expit(logits[known] / temperature))

    best = optimize.minimize_scalar(log_loss, bounds=(0.5, 5), method="bounded").x
    np.testing.assert_allclose(found.temperature, best, rtol=1e-3)
    assert abs(found.temperature - 2) < 0.2
    np.testing.assert_allclose(
        found.probabilities(logits)[known], special.expit(logits[known] / found.temperature)
    )


def test_label_temperatures_are_those_of_the_labels():
    labels, logits = drawn([0.5, 1.0, 3.0])
    found = fit_label_calibrator(labels, logits, "label-temperatures")
    np.testing.assert_allclose(found.label_temperatures, [0.5, 1.0, 3.0], rtol=0.15)
    alone = fit_label_calibrator(labels[:, 2:], logits[:, 2:]).temperature
    assert found.label_temperatures[2] == alone
    np.testing.assert_allclose(found.calibrate(logits), logits / found.label_temperatures)


def test_a_label_with_one_value_gets_the_common_temperature():
    labels, logits = drawn([0.5, 1.0, 3.0])
    labels[:, 0] = np.minimum(labels[:, 0], 0)
    labels[:, 1] = -1
    found = fit_label_calibrator(labels, logits)
    assert found.label_temperatures[0] == found.label_temperatures[1] == found.temperature


def test_the_metrics_are_those_of_scikit_learn():
    labels, logits = drawn(1.0, n=50)
    known = labels >= 0
    found = label_probability_metrics(labels, logits)
    probabilities = special.expit(logits[known])
    np.testing.assert_allclose(found["log_loss"], sk.log_loss(labels[known], probabilities))
    np.testing.assert_allclose(found["brier"], sk.brier_score_loss(labels[known], probabilities))
    with pytest.raises(ValueError, match="All labels are missing"):
        label_probability_metrics(np.full((2, 3), -1), logits[:2])


def test_the_file_is_read_as_written(tmp_path):
    labels, logits = drawn([0.5, 1.0, 3.0], n=200)
    calibrator = fit_label_calibrator(labels, logits, "label-temperatures")
    assert (read_label_calibrator(tmp_path, NAMES).calibrate(logits) == logits)[labels >= 0].all()
    summary = summarize_label_calibration(calibrator, NAMES, labels, logits)
    assert summary["metrics"]["temperature"]["log_loss"] < summary["metrics"]["none"]["log_loss"]
    write_calibration(tmp_path, summary)
    found = read_label_calibrator(tmp_path, NAMES)
    np.testing.assert_array_equal(found.calibrate(logits), calibrator.calibrate(logits))
    with pytest.raises(UserError, match="temperature for each of the 2 labels"):
        read_label_calibrator(tmp_path, NAMES[:2])
    write_calibration(tmp_path, {**summary, "temperature": 0})
    with pytest.raises(UserError, match=r"temperature is not a number from 0\.01 to 1000"):
        read_label_calibrator(tmp_path, NAMES)
    write_calibration(tmp_path, {**summary, "method": "platt"})
    with pytest.raises(UserError, match="method is not one of none, temperature"):
        read_label_calibrator(tmp_path, NAMES)
