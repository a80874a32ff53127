import numpy as np
import pytest
from scipy import stats

from lmf_jax.evaluation.operating.cuts import cut_everywhere
from lmf_jax.evaluation.operating.thresholds import Target, choose_threshold

RNG = np.random.default_rng(0)
IS_CLASS = np.arange(1000) < 181
PROBABILITY = 1 / (1 + np.exp(-RNG.normal(np.where(IS_CLASS, 1.0, -2.0))))


def sensitivity(threshold):
    return float((PROBABILITY[IS_CLASS] >= threshold).mean())


def test_every_cut_counts_what_lies_at_or_above_its_threshold():
    is_class = np.array([True, False, True, False, False])
    cuts = cut_everywhere(is_class, np.array([0.5, 0.5, 1.0, 0.2, 0.0]))
    np.testing.assert_allclose(cuts.thresholds, [0, 0.1, 0.35, 0.75, 1])
    assert cuts.thresholds[-1] > 1, "nothing is positive at the last cut"
    assert cuts.true_positives.tolist() == [2, 2, 2, 1, 0]
    assert cuts.false_positives.tolist() == [3, 2, 1, 0, 0]


def test_the_threshold_of_a_sensitivity_is_the_order_statistic_of_wilks():
    """Of 181 cases, Beta(178, 4) is the first of Beta(181 - k, k + 1) above 0.95 in 95 %."""
    misses = max(k for k in range(20) if stats.beta.ppf(0.05, 181 - k, k + 1) >= 0.95)
    chosen = choose_threshold(IS_CLASS, PROBABILITY, Target("sensitivity", 0.95))
    assert misses == 4 and chosen.guaranteed
    assert chosen.estimate == sensitivity(chosen.value) == 177 / 181
    assert chosen.bound == pytest.approx(stats.beta.ppf(0.05, 177, 5))


def test_the_threshold_of_a_specificity_is_the_mirror_image_of_that_of_a_sensitivity():
    chosen = choose_threshold(IS_CLASS, PROBABILITY, Target("sensitivity", 0.9))
    mirrored = choose_threshold(~IS_CLASS, 1 - PROBABILITY, Target("specificity", 0.9))
    assert mirrored.value == pytest.approx(1 - chosen.value)
    assert mirrored[1:] == pytest.approx(chosen[1:])


def test_a_threshold_is_the_most_extreme_one_that_has_the_guarantee():
    found = choose_threshold(IS_CLASS, PROBABILITY, Target("sensitivity", 0.9))
    misses = round(181 * (1 - found.estimate))
    assert stats.beta.ppf(0.05, 181 - misses, misses + 1) >= 0.9
    assert stats.beta.ppf(0.05, 180 - misses, misses + 2) < 0.9


def test_correlated_images_of_one_lesion_lower_the_threshold():
    order = np.argsort(PROBABILITY)
    groups = np.full(1000, "", "<U16")
    groups[order[IS_CLASS[order]]] = [f"lesion {i // 2}" for i in range(181)]  # Neighbors in score.
    alone = choose_threshold(IS_CLASS, PROBABILITY, Target("sensitivity", 0.95))
    together = choose_threshold(IS_CLASS, PROBABILITY, Target("sensitivity", 0.95), groups=groups)
    assert together.guaranteed and together.value < alone.value


@pytest.mark.parametrize("cases", [2, 58])
def test_too_few_cases_give_the_plain_threshold_without_a_guarantee(cases):
    part = np.concatenate([np.arange(cases), np.arange(181, 1000)])
    chosen = choose_threshold(IS_CLASS[part], PROBABILITY[part], Target("sensitivity", 0.95))
    assert not chosen.guaranteed and chosen.estimate >= 0.95 > chosen.bound


def test_many_images_of_few_lesions_do_not_give_a_guarantee():
    groups = np.array([f"lesion {i % 10}" for i in range(1000)])
    chosen = choose_threshold(IS_CLASS, PROBABILITY, Target("sensitivity", 0.95), groups=groups)
    assert not chosen.guaranteed


def test_finding_every_case_is_never_guaranteed():
    chosen = choose_threshold(IS_CLASS, PROBABILITY, Target("sensitivity", 1.0))
    assert not chosen.guaranteed and chosen.estimate == 1.0
    assert chosen.value < PROBABILITY[IS_CLASS].min()


def test_the_threshold_of_a_ppv_has_it_with_a_margin():
    chosen = choose_threshold(IS_CLASS, PROBABILITY, Target("ppv", 0.5))
    positive = chosen.value <= PROBABILITY
    assert chosen.guaranteed and chosen.estimate == pytest.approx(IS_CLASS[positive].mean())
    assert 0.5 <= chosen.bound < chosen.estimate
    exact = stats.beta.ppf(0.0125, IS_CLASS[positive].sum(), (~IS_CLASS)[positive].sum() + 1)
    assert chosen.bound == pytest.approx(exact, abs=0.03)


def test_a_rarer_disease_needs_a_larger_threshold_for_the_same_ppv():
    common = choose_threshold(IS_CLASS, PROBABILITY, Target("ppv", 0.2), prevalence=0.2)
    rare = choose_threshold(IS_CLASS, PROBABILITY, Target("ppv", 0.2), prevalence=0.02)
    assert common.guaranteed and rare.guaranteed and rare.value > common.value


def test_a_ppv_that_no_threshold_has_is_refused():
    with pytest.raises(ValueError, match=r"No threshold has a PPV of 0\.999"):
        choose_threshold(IS_CLASS, PROBABILITY / 2 * ~IS_CLASS, Target("ppv", 0.999))


def test_the_threshold_of_a_cost_ratio_has_the_lowest_expected_cost():
    chosen = choose_threshold(IS_CLASS, PROBABILITY, Target("cost_ratio", 10.0), prevalence=0.1)
    costs = [
        10 * 0.1 * (PROBABILITY[IS_CLASS] < t).mean() + 0.9 * (PROBABILITY[~IS_CLASS] >= t).mean()
        for t in [*PROBABILITY, 1.1]
    ]
    assert chosen.estimate == pytest.approx(min(costs))
    assert not chosen.guaranteed and chosen.bound is None
    cheap = choose_threshold(IS_CLASS, PROBABILITY, Target("cost_ratio", 1.0), prevalence=0.1)
    assert cheap.value > chosen.value


@pytest.mark.parametrize(
    ("is_class", "probability", "message"),
    [
        ([True, False], [0.5, np.nan], "not in"),
        ([True, False], [0.5, 1.5], "not in"),
        ([False, False], [0.5, 0.1], "none are of the class"),
        ([True, True], [0.5, 0.1], "all are of the class"),
        ([], [], "no images"),
    ],
)
def test_impossible_inputs_are_refused(is_class, probability, message):
    arrays = np.array(is_class, bool), np.array(probability, float)
    with pytest.raises(ValueError, match=message):
        choose_threshold(*arrays, Target("sensitivity", 0.9))


@pytest.mark.parametrize(
    ("kind", "value"),
    [("sensitivity", 0.0), ("ppv", 1.1), ("cost_ratio", np.inf), ("specificity", np.nan)],
)
def test_impossible_targets_are_refused(kind, value):
    with pytest.raises(ValueError, match="expected"):
        Target(kind, value)


@pytest.mark.parametrize("kind", ["sensitivity", "specificity", "ppv", "cost_ratio"])
@pytest.mark.parametrize("probability", [[0.5, 0.5, 0.5], [0, 1, 1], [1, 0, 0], [0, 0, 0]])
def test_degenerate_predictions_have_a_finite_threshold(kind, probability):
    is_class = np.array([False, True, True])
    chosen = choose_threshold(is_class, np.array(probability, float), Target(kind, 0.5))
    assert 0 <= chosen.value <= np.nextafter(1, 2) and np.isfinite(chosen.estimate)
