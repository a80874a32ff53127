import numpy as np
import pytest
from scipy import stats

from lmf_jax.evaluation.operating.effective_size import (
    design_effect,
    lower_bound,
    within_unit_correlation,
)

PAIRS = np.repeat(np.arange(500), 2)


def test_the_bound_of_independent_images_is_that_of_clopper_and_pearson():
    hits = np.array([0, 1, 40, 59])
    found = lower_bound(hits, 59 - hits, level=0.95)
    exact = [
        stats.binomtest(int(k), 59, alternative="greater").proportion_ci(0.95).low for k in hits
    ]
    np.testing.assert_allclose(found, exact, atol=1e-12)


def test_59_cases_that_are_all_found_guarantee_95_percent_with_95_percent_confidence():
    assert lower_bound(59, 0, level=0.95) >= 0.95 > lower_bound(58, 0, level=0.95)


def test_a_design_effect_of_two_halves_the_sample():
    assert lower_bound(80, 20, level=0.9, design_effect=2.0) == lower_bound(40, 10, level=0.9)


def test_images_that_always_agree_count_as_one_unit():
    assert len(PAIRS) / design_effect(PAIRS, 1.0) == 500
    assert design_effect(PAIRS, 0.0) == design_effect(np.arange(1000), 1.0) == 1
    sizes = np.repeat(np.arange(3), [1, 2, 5])
    assert 8 / design_effect(sizes, 1.0) == pytest.approx(8**2 / (1 + 4 + 25))


@pytest.mark.parametrize("correlation", [0.0, 0.5, 1.0])
def test_the_correlation_within_units_is_estimated(correlation):
    rng = np.random.default_rng(0)
    shared, own = rng.normal(size=500)[PAIRS], rng.normal(size=1000)
    scores = correlation**0.5 * shared + (1 - correlation) ** 0.5 * own
    found = within_unit_correlation(scores, PAIRS, float(np.median(scores)))
    assert found == pytest.approx(correlation, abs=0.08)


def test_few_errors_give_a_cautious_correlation():
    scores = np.random.default_rng(1).normal(size=1000)
    middle, tail = (
        within_unit_correlation(scores, PAIRS, float(np.quantile(scores, q))) for q in (0.5, 0.003)
    )
    assert middle < 0.1 < 0.3 < tail


@pytest.mark.parametrize(
    ("scores", "units"),
    [
        (np.ones(4), np.array([0, 0, 1, 1])),
        (np.arange(4.0), np.arange(4)),
        (np.ones(1), np.ones(1, int)),
        (np.ones(0), np.ones(0, int)),
    ],
)
def test_the_correlation_is_1_where_nothing_can_be_estimated(scores, units):
    assert within_unit_correlation(scores, units, 0.5) == 1
    assert design_effect(units, 1.0) >= 1
