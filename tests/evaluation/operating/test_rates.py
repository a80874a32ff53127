import numpy as np
import pytest
from scipy import stats

from lmf_jax.evaluation.operating.rates import beta_binomial, decision_rates, prediction_interval

IS_CLASS = np.repeat([True, False], [40, 160])
IS_POSITIVE = np.repeat([True, False, True, False], [36, 4, 24, 136])


def test_rates_are_those_of_the_two_by_two_matrix():
    rates = decision_rates(IS_CLASS, IS_POSITIVE)
    values = {name: estimate.value for name, estimate in rates._asdict().items()}
    expected = {"sensitivity": 0.9, "specificity": 0.85, "ppv": 0.6, "npv": 136 / 140}
    assert values == pytest.approx({**expected, "flagged": 0.3})
    assert all(estimate.low < estimate.value < estimate.high for estimate in rates)


def test_intervals_of_independent_images_are_close_to_those_of_clopper_and_pearson():
    rates = decision_rates(IS_CLASS, IS_POSITIVE)
    for estimate, hits, n in ((rates.sensitivity, 36, 40), (rates.specificity, 136, 160)):
        exact = stats.binomtest(hits, n).proportion_ci(0.95)
        assert estimate[1:] == pytest.approx((exact.low, exact.high), abs=0.02)


def test_the_predictive_values_at_a_prevalence_follow_from_bayes_rule():
    rates = decision_rates(IS_CLASS, IS_POSITIVE, prevalence=0.02)
    flagged = 0.02 * 0.9 + 0.98 * 0.15
    assert rates.flagged.value == pytest.approx(flagged)
    assert rates.ppv.value == pytest.approx(0.02 * 0.9 / flagged)
    assert rates.npv.value == pytest.approx(0.98 * 0.85 / (1 - flagged))
    assert rates.ppv.low < rates.ppv.value < rates.ppv.high < 0.3
    here = decision_rates(IS_CLASS, IS_POSITIVE)
    assert decision_rates(IS_CLASS, IS_POSITIVE, prevalence=0.2).ppv == pytest.approx(here.ppv)


def test_images_of_one_lesion_widen_the_intervals():
    groups = np.array([f"lesion {i // 4}" for i in range(200)])
    alone, together = (decision_rates(IS_CLASS, IS_POSITIVE, groups=g) for g in (None, groups))
    for one, many in zip(alone[:4], together[:4], strict=True):
        assert many.high - many.low > 1.2 * (one.high - one.low)


@pytest.mark.parametrize(
    ("is_class", "is_positive", "undefined"),
    [
        ([True], [True], {"specificity", "ppv", "npv", "flagged"}),
        ([False, False], [True, False], {"sensitivity", "ppv", "npv", "flagged"}),
        ([True, False], [False, False], {"ppv"}),
        ([True, False], [True, True], {"npv"}),
        ([True, False], [True, False], set()),
    ],
)
def test_rates_of_images_that_do_not_exist_are_undefined(is_class, is_positive, undefined):
    rates = decision_rates(np.array(is_class), np.array(is_positive))
    assert {name for name, estimate in rates._asdict().items() if estimate is None} == undefined
    defined = [estimate for estimate in rates if estimate is not None]
    assert all(0 <= low <= value <= high <= 1 for value, low, high in defined)


def test_the_beta_binomial_distribution_is_that_of_scipy():
    exact = stats.betabinom.pmf(np.arange(31), 30, 7.5, 1.25)
    np.testing.assert_allclose(beta_binomial(30, 7.5, 1.25), exact, atol=1e-12)


def test_a_prediction_interval_has_the_quantiles_of_the_beta_binomial_distribution():
    low, high = prediction_interval(90, 10, 50)
    assert low == stats.betabinom.ppf(0.025, 50, 90, 11) / 50
    assert high == stats.betabinom.ppf(0.975, 50, 91, 10) / 50


def test_a_prediction_interval_is_wider_for_smaller_samples_and_correlated_images():
    def width(*args, **kwargs):
        low, high = prediction_interval(*args, **kwargs)
        return high - low

    wide = width(90, 10, 50)
    assert width(90, 10, 10**6) < width(90, 10, 200) < wide < width(45, 5, 50)
    assert (
        wide
        < width(90, 10, 50, new_design_effect=2.0)
        < width(90, 10, 50, design_effect=4.0, new_design_effect=4.0)
    )


@pytest.mark.parametrize(
    ("hits", "misses", "num_new"), [(0, 5, 3), (5, 0, 3), (0, 0, 4), (3, 2, 0), (1, 0, 1)]
)
def test_a_prediction_interval_of_few_images_is_wide_and_possible(hits, misses, num_new):
    low, high = prediction_interval(hits, misses, num_new)
    assert 0 <= low <= high <= 1
    assert (low == 0 or hits > 0) and (high == 1 or misses > 0)


def test_the_share_of_a_new_sample_lies_in_its_prediction_interval():
    """Also at a threshold that was chosen with the same scores."""
    rng = np.random.default_rng(3)
    inside = []
    for _ in range(2000):
        old, new = np.sort(rng.normal(size=40)), rng.normal(size=30)
        low, high = prediction_interval(36, 4, 30)
        inside.append(low <= (new >= old[4]).mean() <= high)
    assert 0.935 < np.mean(inside) < 0.99
