import numpy as np
import pytest
from scipy import stats

from lmf_jax.evaluation.conformal.coverage import class_coverage, measure_sets, unit_interval


def test_each_lesion_counts_once():
    groups = np.array(["a"] * 8 + ["b", "c"])
    contained = np.array([True] * 4 + [False] * 4 + [True, True])
    sizes = np.array([2] * 8 + [1, 0])
    found = class_coverage(np.ones(10, bool), contained, sizes, groups)
    assert (found.units, found.images) == (3, 10)
    assert found.coverage == pytest.approx(2.5 / 3)
    assert found.size == pytest.approx((2 + 1 + 0) / 3)
    assert found.singletons == pytest.approx(1 / 3) == found.empty


def test_classes_and_the_whole_are_measured():
    sets = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]], bool)
    is_class = np.eye(3, dtype=bool)[[0, 0, 0, 1]]
    classes, overall = measure_sets(sets, is_class)
    assert classes[0].coverage == pytest.approx(2 / 3) and classes[1].coverage == 0.0
    assert classes[1].empty == 1.0 and classes[0].singletons == pytest.approx(2 / 3)
    assert (overall.images, overall.coverage, overall.size) == (4, 0.5, 1.0)


def test_an_absent_class_has_no_figures():
    classes, overall = measure_sets(np.ones((3, 2), bool), np.eye(2, dtype=bool)[[0, 0, 0]])
    assert classes[1].units == classes[1].images == 0
    assert classes[1].coverage is classes[1].interval is classes[1].size is None
    assert overall.coverage == 1.0


@pytest.mark.parametrize(("covered", "units"), [(0, 1), (1, 1), (3, 7), (7, 7), (0, 40), (39, 40)])
def test_whole_units_have_the_clopper_pearson_interval(covered, units):
    expected = stats.binomtest(covered, units).proportion_ci(method="exact")
    assert unit_interval(covered, units) == pytest.approx(tuple(expected), abs=1e-9)


def test_a_unit_that_is_covered_in_full_counts_as_one():
    groups = np.repeat([*"abcdefg"], 7)  # seven sevenths are not always exactly one
    found = class_coverage(np.ones(49, bool), np.ones(49, bool), np.ones(49, int), groups)
    assert found.coverage == 1.0 and found.interval[1] == 1.0


@pytest.mark.parametrize(("rate", "units"), [(0.9, 10), (0.9, 40), (0.5, 10), (0.97, 100)])
def test_the_interval_of_partly_covered_units_holds_in_simulations(rate, units):
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 7, units)
    inside = 0
    for _ in range(2000):
        unit_rate = rng.beta(2 * rate, 2 * (1 - rate), units)
        covered = (rng.binomial(sizes, unit_rate) / sizes).sum()
        low, high = unit_interval(covered, units)
        inside += low <= rate <= high
    assert inside / 2000 > 0.94
