import numpy as np
import pytest
from jaxtyping import config as jaxtyping_config

from lmf_jax import class_margins
from lmf_jax.losses import (
    balanced_weights,
    effective_number_weights,
    inverse_frequency_weights,
)

COUNTS = [100, 20, 5]
ALL = [class_margins, inverse_frequency_weights, balanced_weights, effective_number_weights]


def test_margins_fall_with_the_fourth_root_and_end_at_the_largest():
    np.testing.assert_allclose(class_margins(COUNTS), [0.2364354, 0.35355339, 0.5], rtol=1e-6)
    np.testing.assert_allclose(class_margins([16, 1], max_margin=2.0), [1.0, 2.0], rtol=1e-6)


def test_inverse_frequency_weights_are_those_scikit_learn_calls_balanced():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.repeat([0, 1, 2], COUNTS)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(inverse_frequency_weights(COUNTS), expected, rtol=1e-6)


def test_balanced_weights_sum_to_one():
    np.testing.assert_allclose(balanced_weights(COUNTS), [0.1, 0.42, 0.48], rtol=1e-6)


def test_effective_number_weights_follow_the_definition():
    beta = 0.9
    raw = (1 - beta) / (1 - beta ** np.array(COUNTS, float))
    expected = raw * 3 / raw.sum()
    weights = effective_number_weights(COUNTS, effective_number_beta=beta)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_effective_number_weights_span_from_equal_to_inverse_frequency():
    np.testing.assert_allclose(
        effective_number_weights(COUNTS, effective_number_beta=0.0), np.ones(3), rtol=1e-6
    )
    inverse = 1 / np.array(COUNTS)
    almost = effective_number_weights(COUNTS, effective_number_beta=1 - 1e-9)
    np.testing.assert_allclose(almost, inverse * 3 / inverse.sum(), rtol=1e-5)


@pytest.mark.parametrize("weights", ALL)
def test_a_permutation_of_the_classes_permutes_the_weights(weights):
    order = [2, 0, 1]
    permuted = weights([COUNTS[i] for i in order])
    np.testing.assert_allclose(permuted, np.asarray(weights(COUNTS))[order], rtol=1e-6)


@pytest.mark.parametrize("weights", ALL)
@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([100, 0, 5], "Class 1 has 0 training examples"),
        ([100, 20, -3], "Class 2 has -3 training examples"),
        ([100, np.nan, 5], "nan for class 1"),
        ([np.inf, 2], "inf for class 0"),
        ([100], r"shape \(1,\)"),
        ([[100, 20], [5, 3]], r"shape \(2, 2\)"),
    ],
)
def test_counts_that_no_weight_can_come_from_are_refused(weights, counts, message, monkeypatch):
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        weights(counts)


def test_parameters_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"max_margin is 0\.0"):
        class_margins(COUNTS, max_margin=0.0)
    with pytest.raises(ValueError, match=r"effective_number_beta is 1\.0"):
        effective_number_weights(COUNTS, effective_number_beta=1.0)


def test_traced_counts_are_refused_by_name():
    import jax
    import jax.numpy as jnp

    with pytest.raises(TypeError, match="class_counts is traced"):
        jax.jit(class_margins)(jnp.array([3.0, 4.0]))
