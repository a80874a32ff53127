"""Intervals and tests against plain loops and SciPy, and their coverage."""

from itertools import product

import jax
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from lmf_jax.evaluation import resampling
from lmf_jax.evaluation.classification.metrics import macro_f1
from lmf_jax.evaluation.classification.scores import score, softmax
from lmf_jax.evaluation.resampling import expanded_level, resample
from lmf_jax.evaluation.segmentation.summary import bootstrap_means
from lmf_jax.evaluation.statistics import (
    compare_macro_f1,
    compare_means,
    holm,
    mcnemar,
    mean_difference_over_seeds,
    mean_over_seeds,
    score_intervals,
)

COUNTS = [60, 25, 10, 5]
LABELS = np.repeat(np.arange(4), COUNTS)[np.random.default_rng(3).permutation(100)]
NUM_RESAMPLES = 50


def draw_logits(seed=0, signal=1.5):
    logits = np.random.default_rng(seed).normal(size=(100, 4)) + signal * np.eye(4)[LABELS]
    return logits.round(1).astype(np.float32)  # Some logits tie.


def weights_only(arrays, weights, num_classes):
    return weights


def draw_weights(seed=0, num_resamples=NUM_RESAMPLES):
    return resample(weights_only, np.zeros(1), LABELS, 4, num_resamples=num_resamples, seed=seed)


def test_a_resample_keeps_the_class_counts():
    weights = draw_weights(num_resamples=400)
    by_class = np.stack([weights[:, class_id == LABELS].sum(axis=1) for class_id in range(4)])
    np.testing.assert_array_equal(by_class, np.tile(np.array(COUNTS)[:, None], 400))
    # Drawn with replacement: a count has mean 1 and variance 1 - 1/n of the class.
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=6 / 20)
    for class_id, count in enumerate(COUNTS):
        variance = weights[:, class_id == LABELS].var()
        assert variance == pytest.approx(1 - 1 / count, rel=0.1)


def test_resamples_depend_only_on_the_seed(monkeypatch):
    weights = draw_weights()
    np.testing.assert_array_equal(draw_weights(), weights)
    np.testing.assert_array_equal(draw_weights(num_resamples=9), weights[:9])
    assert not np.array_equal(draw_weights(seed=1), weights)
    monkeypatch.setattr(resampling, "MAX_ELEMENTS", 7)  # Many small chunks.
    np.testing.assert_array_equal(draw_weights(), weights)


def test_ranking_intervals_equal_a_loop_with_scikit_learn():
    logits = draw_logits()
    probabilities = softmax(logits)
    samples = []
    for weights in draw_weights():
        rows = np.repeat(np.arange(100), weights.astype(int))
        of_class = [(LABELS[rows] == c, probabilities[rows, c]) for c in range(4)]
        auroc = [sklearn_metrics.roc_auc_score(*pair) for pair in of_class]
        average_precision = [sklearn_metrics.average_precision_score(*pair) for pair in of_class]
        samples.append([np.mean(auroc), np.mean(average_precision), *auroc, *average_precision])
    expected = np.quantile(samples, [0.05, 0.95], axis=0)
    found, _ = score_intervals(LABELS, logits, level=0.9, num_resamples=NUM_RESAMPLES)
    columns = [np.reshape(leaf, (2, -1)) for leaf in found.ranking]
    np.testing.assert_allclose(np.concatenate(columns, axis=1), expected, rtol=2e-5, atol=1e-6)


def test_narrow_labels_do_not_overflow():
    labels = np.repeat(np.arange(20, dtype=np.uint8), 15)
    logits = np.random.default_rng(0).normal(size=(300, 20)) + 2 * np.eye(20)[labels]
    found, expected = (
        score_intervals(ids, logits, num_resamples=20) for ids in (labels, labels.astype(int))
    )
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    predictions = logits.argmax(axis=1).astype(np.uint8)[None]
    np.testing.assert_allclose(
        macro_f1(labels, predictions, num_classes=20),
        score(labels, logits).classification.macro_f1,
    )


def test_comparison_takes_the_mean_over_seeds():
    first = np.stack([draw_logits(seed).argmax(axis=1) for seed in (0, 1, 2)])
    second = np.stack([draw_logits(seed, signal=0.5).argmax(axis=1) for seed in (3, 4)])
    found = compare_macro_f1(LABELS, first, second, num_classes=4)
    scores = [
        [sklearn_metrics.f1_score(LABELS, row, average="macro") for row in rows]
        for rows in (first, second)
    ]
    assert found.difference == pytest.approx(np.mean(scores[0]) - np.mean(scores[1]))
    assert 0 < found.low < found.difference < found.high
    assert found.p_value == 1 / 10_000, "no random exchange is as far apart"
    swapped = compare_macro_f1(LABELS, second, first, num_classes=4)
    assert swapped.low == pytest.approx(-found.high, abs=0.02)
    assert swapped.p_value == found.p_value


def test_a_model_does_not_differ_from_itself():
    predictions = draw_logits().argmax(axis=1)[None]
    found = compare_macro_f1(LABELS, predictions, predictions, num_classes=4)
    assert found.difference == 0 and found.low <= 0 <= found.high
    assert found.p_value == 1


def test_means_of_few_cases_have_wider_intervals_than_percentiles():
    differences = np.array([0.1, 0.2, 0.0, 0.3, 0.15])
    samples = bootstrap_means(differences)
    found = compare_means(differences, samples)
    assert found.difference == pytest.approx(0.15)
    percentiles = np.quantile(samples, [0.025, 0.975])
    assert found.high - found.low > 1.2 * (percentiles[1] - percentiles[0])
    assert found.p_value == 2 / 2**4, "one case of five has no difference"


def test_expanded_percentiles_of_many_units_are_percentiles():
    assert expanded_level(0.95, 100_000) == pytest.approx(0.95, abs=1e-5)
    t = stats.t.ppf(0.975, 4) * np.sqrt(5 / 4)
    assert expanded_level(0.95, 5) == pytest.approx(1 - 2 * stats.norm.sf(t))
    assert expanded_level(0.95, 1) == 1


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (3, 9), (12, 12), (0, 20)])
def test_few_discordant_examples_get_the_exact_test(only_first, only_second):
    found = mcnemar(*make_discordant(only_first, only_second))
    assert found[:3] == (only_first, only_second, min(only_first, only_second))
    discordant = only_first + only_second
    exact = stats.binomtest(only_first, discordant, 0.5).pvalue if discordant else 1
    assert found.p_value == pytest.approx(exact)


def test_many_discordant_examples_get_chi_square_with_continuity_correction():
    found = mcnemar(*make_discordant(30, 12))
    assert found.statistic == pytest.approx(17**2 / 42)
    assert found.p_value == pytest.approx(stats.chi2.sf(17**2 / 42, 1))
    # statsmodels.stats.contingency_tables.mcnemar([[90, 30], [12, 9]], exact=False).
    assert found.p_value == pytest.approx(0.008712, rel=1e-3)


def test_equal_numbers_of_discordant_examples_are_no_difference():
    assert mcnemar(*make_discordant(20, 20))[2:] == (0, 1)


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (3, 9), (30, 12)])
def test_mcnemar_of_groups_of_one_is_that_of_examples(only_first, only_second):
    correct = make_discordant(only_first, only_second)
    alone = np.array([f"lesion {i}" for i in range(len(correct[0]))])
    assert mcnemar(*correct, alone) == mcnemar(*correct)
    assert mcnemar(*correct, np.full(len(alone), "")) == mcnemar(*correct), "without a group"


def test_mcnemar_of_many_groups_by_hand():
    # The first model is right on 2 more images of 20 lesions, the second on 1 more of 10 others; on
    # 5 each is right on another image. sum d = 30, sum d^2 = 90; the correction takes 1 off.
    first = np.array([True, True] * 20 + [False, True] * 10 + [True, False] * 5)
    second = np.array([False, False] * 20 + [True, True] * 10 + [False, True] * 5)
    lesions = np.array([f"lesion {i // 2}" for i in range(len(first))])
    shuffled = np.random.default_rng(0).permutation(len(first))
    found = mcnemar(first[shuffled], second[shuffled], lesions[shuffled])
    assert found[:2] == (45, 15)
    assert found.statistic == pytest.approx(29**2 / 90)
    assert found.p_value == pytest.approx(stats.chi2.sf(29**2 / 90, 1))
    assert found.p_value > 10 * mcnemar(first, second).p_value


def test_mcnemar_of_few_groups_counts_all_signs():
    leads = [3, 2, 2, -1, 1, 1, -2, 0, 4]
    ahead = np.concatenate([np.full(abs(lead), np.sign(lead)) for lead in leads])
    lesions = np.repeat([f"lesion {i}" for i in range(len(leads))], np.abs(leads))
    found = mcnemar(ahead > 0, ahead < 0, lesions)
    sums = [np.dot(signs, leads) for signs in product([-1, 1], repeat=len(leads))]
    assert found.p_value == pytest.approx(np.mean(np.abs(sums) >= sum(leads)))
    assert found[:3] == (13, 3, 3)


def test_equal_images_of_a_lesion_add_no_evidence():
    correct = make_discordant(3, 9)
    lesions = np.array([f"lesion {i}" for i in range(len(correct[0]))])
    twice = mcnemar(*(np.tile(side, 2) for side in correct), np.tile(lesions, 2))
    assert twice.p_value == mcnemar(*correct).p_value
    assert twice[:2] == (6, 18)


def test_mcnemar_of_groups_keeps_its_level():
    # The images of a lesion are mostly right or wrong together, equally often for both models.
    rng = np.random.default_rng(0)
    lesions = np.repeat([f"lesion {i}" for i in range(100)], 6)
    alarms = []
    for _ in range(400):
        hard = np.repeat(rng.uniform(size=(2, 100)) < 0.5, 6, axis=1)
        correct = rng.uniform(size=(2, 600)) < np.where(hard, 0.1, 0.9)
        alarms.append([mcnemar(*correct, groups).p_value < 0.05 for groups in (lesions, None)])
    of_groups, of_images = np.mean(alarms, axis=0)
    assert 0.02 < of_groups < 0.07 and of_images > 0.2


def make_discordant(only_first, only_second):
    first = np.repeat([True, False, True, False], [only_first, only_second, 90, 9])
    second = np.repeat([False, True, True, False], [only_first, only_second, 90, 9])
    return first, second


def test_holm_steps_down_and_never_falls_below_a_smaller_one():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1; the last would fall below the third.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1, 1]
    assert holm([0.04]) == [0.04] and holm([]) == []


def test_mean_over_seeds_has_students_interval():
    values = [0.871, 0.913, 0.808, 0.902]
    found = mean_over_seeds(values)
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.standard_deviation == pytest.approx(np.std(values, ddof=1))


def test_difference_over_seeds_is_paired():
    first, second = [0.9, 0.8, 0.7], [0.85, 0.76, 0.65]
    found = mean_difference_over_seeds(first, second)
    paired = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((paired.low, paired.high))
    assert found.low > 0


def test_too_few_or_unequal_seeds_are_refused():
    with pytest.raises(ValueError, match="There are 1 seeds"):
        mean_over_seeds([0.9])
    with pytest.raises(ValueError, match="There are 2 and 3 seeds"):
        mean_difference_over_seeds([0.9, 0.8], [0.9, 0.8, 0.7])


def test_groups_are_drawn_with_all_their_examples():
    labels = np.repeat([0, 1, 2], [6, 4, 3])
    groups = np.array(["a", "a", "a", "b", "", "", "c", "c", "d", "d", "a", "e", "f"])
    weights = resample(
        weights_only, np.zeros(1), labels, 3, groups=groups, num_resamples=500, seed=0
    )
    for name in ("a", "c", "d"):
        together = weights[:, groups == name]
        assert (together == together[:, :1]).all(), "drawn together"
    # By their rarest class: b and two without a group; c and d; a, e and f.
    assert (weights[:, [3, 4, 5]].sum(axis=1) == 3).all()
    assert (weights[:, [6, 8]].sum(axis=1) == 2).all()
    assert (weights[:, 10:].sum(axis=1) == 3).all()
    assert len(np.unique(weights[:, 4] - weights[:, 5])) > 1, "without a group, each for itself"


def test_groups_of_one_change_nothing_and_equal_images_widen_the_interval():
    logits = draw_logits()
    alone = np.array([f"lesion {i}" for i in range(len(LABELS))])
    plain, _ = score_intervals(LABELS, logits)
    same, _ = score_intervals(LABELS, logits, groups=np.sort(alone))
    jax.tree.map(np.testing.assert_allclose, same.classification[:4], plain.classification[:4])
    twice = np.concatenate([LABELS, LABELS]), np.concatenate([logits, logits])
    as_images = score_intervals(*twice)[0].classification.macro_f1
    as_groups = score_intervals(*twice, groups=np.tile(alone, 2))[0].classification.macro_f1
    assert np.diff(as_groups) > 1.25 * np.diff(as_images), "twice the images tell nothing new"
