"""Simulations: how often the true sensitivity at a chosen threshold is below the guaranteed one."""

import numpy as np
import pytest
from scipy import stats

from lmf_jax.evaluation.operating.thresholds import Target, choose_threshold

NUM_SIMULATIONS = 500
LARGEST_SHARE = 0.05 + 3 * (0.05 * 0.95 / NUM_SIMULATIONS) ** 0.5
"""Three standard errors above the promised share of missed guarantees."""
TARGET = 0.9


def draw_scores(kind, rng):
    """Return scores of cases, their units, and the function from a score to the true sensitivity.

    "correlated" lesions have one to six images whose scores correlate by 0.5; of the "difficult"
    ones, a tenth has low scores in all its images.
    """
    units = np.repeat(np.arange(80), 1 if kind == "independent" else rng.integers(1, 7, 80))
    own = rng.normal(size=len(units))
    if kind == "difficult":
        shift = -3 * (rng.random(80) < 0.1)
        return (
            own + shift[units],
            units,
            lambda t: 0.9 * stats.norm.sf(t) + 0.1 * stats.norm.sf(t + 3),
        )
    if kind == "correlated":
        own = (own + rng.normal(size=80)[units]) / 2**0.5
    return own, units, stats.norm.sf


@pytest.mark.parametrize("kind", ["independent", "correlated", "difficult"])
def test_the_guaranteed_sensitivity_is_missed_at_most_as_often_as_stated(kind):
    rng = np.random.default_rng(0)
    missed, margins = [], []
    for _ in range(NUM_SIMULATIONS):
        scores, units, true_sensitivity = draw_scores(kind, rng)
        is_class = np.append(np.ones(len(scores), bool), np.zeros(20, bool))
        probability = stats.norm.cdf(np.append(scores, rng.normal(-1, 1, size=20)))
        groups = np.append(np.char.add("lesion ", units.astype(str)), np.full(20, ""))
        chosen = choose_threshold(
            is_class, probability, Target("sensitivity", TARGET), groups=groups
        )
        assert chosen.guaranteed
        true = true_sensitivity(stats.norm.ppf(chosen.value))
        missed.append(true < TARGET)
        margins.append(true - TARGET)
    assert np.mean(missed) < LARGEST_SHARE
    assert np.mean(margins) < 0.07, "a guarantee by calling everything positive is worthless"


def test_without_regard_to_lesions_the_guarantee_would_be_missed_more_often():
    """The simulation can tell: 500 correlated cases are not 500 independent ones."""
    rng = np.random.default_rng(0)
    missed = []
    for _ in range(NUM_SIMULATIONS):
        scores, _, true_sensitivity = draw_scores("difficult", rng)
        is_class = np.append(np.ones(len(scores), bool), False)
        probability = stats.norm.cdf(np.append(scores, -1.0))
        chosen = choose_threshold(is_class, probability, Target("sensitivity", TARGET))
        missed.append(true_sensitivity(stats.norm.ppf(chosen.value)) < TARGET)
    assert np.mean(missed) > 1.5 * LARGEST_SHARE


def test_the_guaranteed_specificity_is_missed_at_most_as_often_as_stated():
    rng = np.random.default_rng(1)
    missed = []
    for _ in range(NUM_SIMULATIONS):
        scores = np.append(rng.normal(size=150), rng.normal(1, 1, size=20))
        is_class = np.arange(170) >= 150
        probability = stats.norm.cdf(scores)
        chosen = choose_threshold(is_class, probability, Target("specificity", TARGET))
        missed.append(stats.norm.cdf(stats.norm.ppf(chosen.value)) < TARGET)
    assert np.mean(missed) < LARGEST_SHARE


def test_the_guaranteed_ppv_is_missed_at_most_as_often_as_stated():
    rng = np.random.default_rng(2)
    missed, guaranteed = [], []
    for _ in range(NUM_SIMULATIONS // 2):
        is_class = np.arange(300) < 100
        log_odds = rng.normal(np.where(is_class, 1.0, -1.0), 1.5)
        probability = 1 / (1 + np.exp(-log_odds))
        chosen = choose_threshold(is_class, probability, Target("ppv", 0.7))
        true, false = stats.norm.sf(np.log(chosen.value / (1 - chosen.value)), [1, -1], 1.5)
        guaranteed.append(chosen.guaranteed)
        missed.append(chosen.guaranteed and true / (true + 2 * false) < 0.7)
    assert np.mean(missed) < LARGEST_SHARE
    assert np.mean(guaranteed) > 0.25
