import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from lmf_jax.evaluation.operating.curves import (
    decision_curve,
    partial_auc,
    precision_recall_curve,
    roc_curve,
)

RNG = np.random.default_rng(0)
IS_CLASS = RNG.random(400) < 0.2
UNTIED = 1 / (1 + np.exp(-RNG.normal(np.where(IS_CLASS, 1.0, -1.0))))
PROBABILITY = np.round(UNTIED, 2)


def test_the_roc_curve_is_that_of_scikit_learn():
    curve = roc_curve(IS_CLASS, PROBABILITY)
    x, y, _ = metrics.roc_curve(IS_CLASS, PROBABILITY, drop_intermediate=False)
    np.testing.assert_allclose(curve.false_positive_rate, x, atol=1e-12)
    np.testing.assert_allclose(curve.sensitivity, y, atol=1e-12)


def test_the_precision_recall_curve_is_that_of_scikit_learn():
    curve = precision_recall_curve(IS_CLASS, PROBABILITY)
    precision, recall, _ = metrics.precision_recall_curve(IS_CLASS, PROBABILITY)
    np.testing.assert_allclose(curve.precision, precision[:-1][::-1])
    np.testing.assert_allclose(curve.recall, recall[:-1][::-1])
    assert curve.prevalence == IS_CLASS.mean()


def isic_2024(is_class, probability):
    """Compute the metric as the challenge does, with labels and scores flipped."""
    max_fpr = 0.2
    scaled = metrics.roc_auc_score(~is_class, 1 - probability, max_fpr=max_fpr)
    smallest, largest = 0.5 * max_fpr**2, max_fpr
    return smallest + (largest - smallest) / 0.5 * (scaled - 0.5)


@pytest.mark.parametrize("seed", range(4))
def test_the_partial_auc_is_that_of_the_isic_2024_challenge(seed):
    rng = np.random.default_rng(seed)
    is_class = np.arange(200) < 30
    probability = np.round(rng.random(200) ** np.where(is_class, 0.5, 2 - seed / 2), 2)
    found = roc_curve(is_class, probability).partial_auc
    assert found.value == pytest.approx(isic_2024(is_class, probability), abs=1e-12)
    assert 0 <= found.low < found.value < found.high <= 0.2


def test_the_partial_auc_runs_from_0_to_one_fifth():
    corner, diagonal = np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0])
    assert partial_auc(corner, np.array([0.0, 1.0, 1.0])) == pytest.approx(0.2)
    assert partial_auc(diagonal, diagonal) == pytest.approx(0.02)
    assert partial_auc(np.array([0.0, 1.0, 1.0]), np.array([0.0, 0.0, 1.0])) == 0


def test_the_net_benefit_is_that_of_vickers_and_elkin():
    curve = decision_curve(IS_CLASS, PROBABILITY)
    for i in (9, 29, 79):
        threshold, n = curve.thresholds[i], len(IS_CLASS)
        positive = threshold <= PROBABILITY
        true, false = (positive & IS_CLASS).sum(), (positive & ~IS_CLASS).sum()
        harm = threshold / (1 - threshold)
        assert curve.net_benefit[i] == pytest.approx(true / n - false / n * harm)
        assert curve.treat_all[i] == pytest.approx(IS_CLASS.mean() - (~IS_CLASS).mean() * harm)


def test_the_net_benefit_at_another_prevalence_uses_converted_probabilities():
    curve = decision_curve(IS_CLASS, UNTIED, prevalence=0.02)
    odds = UNTIED / (1 - UNTIED) * (0.02 / 0.98) / (IS_CLASS.mean() / (~IS_CLASS).mean())
    positive = odds / (1 + odds) >= curve.thresholds[4]
    harm = curve.thresholds[4] / (1 - curve.thresholds[4])
    expected = 0.02 * positive[IS_CLASS].mean() - 0.98 * positive[~IS_CLASS].mean() * harm
    assert curve.net_benefit[4] == pytest.approx(expected)
    here = decision_curve(IS_CLASS, UNTIED)
    np.testing.assert_allclose(
        decision_curve(IS_CLASS, UNTIED, prevalence=float(IS_CLASS.mean())).net_benefit,
        here.net_benefit,
    )


def test_bands_surround_the_curves_and_are_wider_for_correlated_images():
    groups = np.array([f"lesion {i // 4}" for i in np.argsort(np.argsort(PROBABILITY))])
    widths = []
    for unit in (None, groups):
        roc = roc_curve(IS_CLASS, PROBABILITY, groups=unit)
        on_grid = np.interp(roc.band.x, roc.false_positive_rate, roc.sensitivity)
        inside = (roc.band.low <= on_grid + 1e-9) & (on_grid <= roc.band.high + 1e-9)
        assert inside[5:-5].all()
        benefit = decision_curve(IS_CLASS, PROBABILITY, groups=unit)
        assert (benefit.band.low <= benefit.net_benefit).all()
        assert (benefit.net_benefit <= benefit.band.high).all()
        widths.append(roc.partial_auc.high - roc.partial_auc.low)
    assert widths[1] > 1.3 * widths[0]


def test_the_band_of_a_perfect_classifier_of_few_images_is_wide():
    is_class = np.arange(40) < 4
    curve = roc_curve(is_class, is_class * 0.8 + 0.1)
    assert curve.partial_auc.value == pytest.approx(0.2) and curve.partial_auc.low < 0.15
    assert curve.band.low[10] < 0.8 and curve.band.high[10] > 0.99


def test_a_curve_of_many_images_has_a_band_of_few_thresholds():
    rng = np.random.default_rng(5)
    is_class = rng.random(20_000) < 0.1
    probability = rng.beta(2, 2, size=20_000) ** np.where(is_class, 0.3, 1)
    curve = roc_curve(is_class, probability)
    assert len(curve.sensitivity) == 20_001
    on_grid = np.interp(curve.band.x, curve.false_positive_rate, curve.sensitivity)
    assert (abs((curve.band.low + curve.band.high) / 2 - on_grid) < 0.01).all()
    assert curve.partial_auc.high - curve.partial_auc.low < 0.02


def test_the_interval_of_the_partial_auc_covers_the_truth():
    """The true curve of two normal distributions, two standard deviations apart."""
    x = np.linspace(-6, 8, 2001)[::-1]
    truth = partial_auc(stats.norm.sf(x), stats.norm.sf(x - 1.5))
    rng, inside = np.random.default_rng(7), []
    is_class = np.arange(120) < 30
    for seed in range(60):
        scores = rng.normal(1.5 * is_class)
        found = roc_curve(is_class, stats.norm.cdf(scores), seed=seed).partial_auc
        inside.append(found.low <= truth <= found.high)
    assert np.mean(inside) >= 0.9


@pytest.mark.parametrize("curve", [roc_curve, precision_recall_curve, decision_curve])
def test_degenerate_predictions_have_finite_curves(curve):
    is_class = np.array([True, False, False])
    for probability in ([0.5, 0.5, 0.5], [1, 0, 0], [0, 1, 1], [0, 0, 0]):
        found = curve(is_class, np.array(probability, float))
        arrays = [*found[:2], *found.band]
        assert all(np.isfinite(array).all() for array in arrays)
    for wrong, message in ((np.full(3, np.nan), "not in"), (np.full(3, 0.5), "needs both")):
        with pytest.raises(ValueError, match=message):
            curve(is_class if np.isnan(wrong).any() else ~is_class | is_class, wrong)
