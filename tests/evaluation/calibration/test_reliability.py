"""Intervals of a reliability diagram, and the lines of the terminal."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from lmf_jax.evaluation.calibration import (
    Calibrator,
    accuracy_intervals,
    calibration_lines,
    fit_calibrator,
    summarize_calibration,
)
from lmf_jax.evaluation.classification.scores import reliability_bins


def sample(n=300, seed=0):
    """Return labels that are drawn from the probabilities, and these."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(3), n)
    return (rng.random((n, 1)) > probabilities.cumsum(axis=1)).sum(axis=1), probabilities


def test_intervals_of_independent_images_are_those_of_wilson():
    labels, probabilities = sample()
    bins = reliability_bins(labels, probabilities)
    for ends, count, accuracy in zip(
        accuracy_intervals(labels, probabilities).T, bins.counts, bins.accuracy, strict=True
    ):
        expected = (0, 1)
        if count:
            tested = binomtest(round(count * accuracy), count)
            expected = tuple(tested.proportion_ci(method="wilson"))
        assert ends == pytest.approx(expected)
        assert not count or ends[0] <= accuracy <= ends[1]


def test_images_of_one_lesion_widen_the_intervals():
    labels, probabilities = sample(100)
    repeated = np.repeat(labels, 4), np.repeat(probabilities, 4, axis=0)
    lesions = np.repeat([f"lesion {i}" for i in range(100)], 4)
    low, high = accuracy_intervals(*repeated, groups=lesions)
    expected = accuracy_intervals(labels, probabilities)
    np.testing.assert_allclose([low, high], expected, atol=1e-9)


@pytest.mark.parametrize("method", ["none", "temperature", "vector"])
@pytest.mark.parametrize("scale", [1e-30, 0.2, 5.0, 1e37])
def test_the_terminal_gets_at_most_two_lines_of_80_columns(method, scale):
    labels, probabilities = sample()
    logits = np.log(probabilities) * scale
    part = (labels, logits, None)
    fitted = replace(fit_calibrator(labels, logits), method=method)
    lines = calibration_lines(
        summarize_calibration(fitted, ["a", "b", "c"], validation=part, test=part)
    )
    assert len(lines) <= 2 and max(map(len, lines)) <= 80
    text = " ".join(lines)
    assert ("not calibrated" in text) == (method == "none")
    assert "inf" not in text and "nan" not in text


def test_the_lines_name_the_values_before_and_after():
    labels, probabilities = sample(2000)
    part = (labels, np.log(probabilities) * 3, None)
    calibrator = fit_calibrator(*part[:2])
    made = summarize_calibration(calibrator, ["a", "b", "c"], validation=part, test=part)
    text = " ".join(calibration_lines(made))
    before, after = made["metrics"]["none"], made["metrics"]["temperature"]
    assert f"temperature {calibrator.temperature:.3f}" in text
    assert f"ECE {after['ece']:.3f} [" in text
    assert f"Brier score {before['brier']:.3f} to {after['brier']:.3f}" in text
    assert f"log loss {before['log_loss']:.3f} to {after['log_loss']:.3f}" in text
    identity = Calibrator.identity(3)
    (line,) = calibration_lines(
        summarize_calibration(identity, ["a", "b", "c"], validation=part, test=part)
    )
    assert f"Brier score {before['brier']:.3f}" in line
