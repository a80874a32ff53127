"""Multi-label losses against formulas in NumPy and float64, whose derivatives are complex steps."""

import doctest
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax.test_util import check_grads
from jaxtyping import config as jaxtyping_config

import lmf_jax.losses.multilabel_cross_entropy_losses
from lmf_jax.losses import (
    asymmetric_loss,
    distribution_balanced_loss,
    label_margins,
    positive_weights,
    robust_asymmetric_loss,
    sigmoid_cross_entropy_loss,
    sigmoid_focal_loss,
    sigmoid_ldam_loss,
    sigmoid_lmf_loss,
    sigmoid_logit_adjusted_loss,
)

POSITIVE, NEGATIVE = np.array([5, 20, 60, 2]), np.array([95, 80, 40, 97])
MARGINS = 0.5 * np.stack([NEGATIVE, POSITIVE], 1) ** -0.25 / 2**-0.25
WEIGHTS = NEGATIVE / POSITIVE
ONES = np.ones((4, 2))
LOGITS = np.array([[2, 0.5, -1, 3.0], [-0.1, 0.3, 0.2, -4], [-2.4, 1.2, 0.9, 0], [1, -1, 0.8, -3]])
LABELS = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [1, 1, 0, 1]])
counted = partial(partial, positive_counts=POSITIVE, negative_counts=NEGATIVE)


def sigmoid(x):
    """Without overflow, and with all digits at both ends."""
    small = np.exp(np.where(x.real < 0, x, -x))
    return np.where(x.real < 0, small, 1) / (1 + small)


def softplus(x):
    return np.where(x.real < 0, 0, x) + np.log1p(np.exp(np.where(x.real < 0, x, -x)))


def focal(z, y, *, gamma=0.0, weights=ONES, scale=1.0, margins=0 * ONES):
    """One formula for BCE, focal and LDAM."""
    d = scale * np.where(y == 1, -z + margins[:, 1], z + margins[:, 0])
    return np.where(y == 1, weights[:, 1], weights[:, 0]) * sigmoid(d) ** gamma * softplus(d)


def shifted_negative(z, gamma, clip):
    p, q = sigmoid(z), sigmoid(-z)
    beyond = p.real > clip
    p_m = np.where(beyond, p - clip, 0.5)
    log_rest = np.where(p_m.real < 0.5, np.log1p(-p_m), np.log(q + clip))
    return np.where(beyond, -(p_m**gamma) * log_rest, 0), np.where(beyond, p_m, 0)


def asl(z, y, *, gamma_positive=0.0, gamma_negative=4.0, clip=0.05):
    negative = shifted_negative(z, gamma_negative, clip)[0]
    return np.where(y == 1, sigmoid(-z) ** gamma_positive * softplus(-z), negative)


def ral(z, y, *, first=1.0, second=-2.5, hill=1.5, gamma_positive=0.0):
    p, q = sigmoid(z), sigmoid(-z)
    positive = q**gamma_positive * (softplus(-z) - first * q - second / 2 * q**2)
    negative, p_m = shifted_negative(z, 4.0, 0.05)
    return np.where(y == 1, positive, negative * p**2 * (hill - p) * (hill - (1 - p_m)))


def distribution_balanced(z, y, *, gamma=2.0, scale=2.0):
    inverse = 1 / POSITIVE
    total = (y * inverse).sum(1, keepdims=True)
    ratio = np.divide(inverse, total, out=np.full(y.shape, np.inf), where=total > 0)
    weights = 0.1 + 1 / (1 + np.exp(-10 * (ratio - 0.2)))
    x = z - 0.05 / scale * np.log(NEGATIVE / POSITIVE)
    d = np.where(y == 1, -x, scale * x)
    return weights * sigmoid(d) ** gamma * softplus(d) / np.where(y == 1, 1, scale)


def lmf(z, y, *, scale=1.0):
    ldam = focal(z, y, margins=MARGINS, scale=scale)
    return 1.5 * ldam + 0.5 * focal(z, y, gamma=1.5, weights=MARGINS)


LOSSES = {
    "bce": (sigmoid_cross_entropy_loss, focal),
    "wbce": (
        partial(sigmoid_cross_entropy_loss, positive_weights=WEIGHTS),
        partial(focal, weights=np.stack([np.ones(4), WEIGHTS], 1)),
    ),
    "focal": (
        partial(sigmoid_focal_loss, label_weights=MARGINS, gamma=2.0),
        partial(focal, gamma=2.0, weights=MARGINS),
    ),
    "ldam": (
        partial(sigmoid_ldam_loss, margins=MARGINS),
        partial(focal, margins=MARGINS),
    ),
    "ldam, other scale": (
        partial(sigmoid_ldam_loss, margins=MARGINS, scale=30.0),
        partial(focal, margins=MARGINS, scale=30.0),
    ),
    "lmf": (partial(sigmoid_lmf_loss, margins=MARGINS, alpha=1.5, beta=0.5), lmf),
    "lmf, other scale": (
        partial(sigmoid_lmf_loss, margins=MARGINS, alpha=1.5, beta=0.5, scale=30.0),
        partial(lmf, scale=30.0),
    ),
    "logit adjustment": (
        counted(sigmoid_logit_adjusted_loss, tau=0.7),
        lambda z, y: focal(z + 0.7 * np.log(POSITIVE / NEGATIVE), y),
    ),
    "asl": (asymmetric_loss, asl),
    "asl, other settings": (
        partial(asymmetric_loss, gamma_positive=0.5, gamma_negative=0.5, clip=0.0),
        partial(asl, gamma_positive=0.5, gamma_negative=0.5, clip=0.0),
    ),
    "ral": (robust_asymmetric_loss, ral),
    "ral, other settings": (
        partial(
            robust_asymmetric_loss,
            gamma_positive=1.0,
            first_epsilon=0.3,
            second_epsilon=0.5,
            hill_lambda=1.2,
        ),
        partial(ral, first=0.3, second=0.5, hill=1.2, gamma_positive=1.0),
    ),
    "distribution-balanced": (counted(distribution_balanced_loss), distribution_balanced),
    "distribution-balanced, other settings": (
        counted(distribution_balanced_loss, gamma=0.0, negative_scale=5.0),
        partial(distribution_balanced, gamma=0.0, scale=5.0),
    ),
}
each_loss = pytest.mark.parametrize("loss", [pair[0] for pair in LOSSES.values()], ids=LOSSES)
each_pair = pytest.mark.parametrize(("loss", "reference"), LOSSES.values(), ids=LOSSES)


def value_and_derivative(loss, logits, labels):
    """Values and their derivatives by their own logit."""
    values, pullback = jax.vjp(lambda z: loss(z, labels), logits)
    return values, pullback(jnp.ones_like(values))[0]


def assert_follows(loss, reference, logits, labels, rtol, atol):
    step = 1e-100
    values, derivatives = value_and_derivative(loss, jnp.asarray(logits), jnp.asarray(labels))
    logits = np.asarray(logits, np.float64)
    expected = reference(logits + 1j * step, labels)
    np.testing.assert_allclose(values, expected.real, rtol=rtol, atol=atol)
    np.testing.assert_allclose(derivatives, expected.imag / step, rtol=rtol, atol=atol)


@each_pair
def test_values_and_gradients_follow_the_formula(loss, reference):
    logits = LOGITS.astype(np.float32)
    assert_follows(loss, reference, logits, LABELS, rtol=1e-5, atol=1e-6)
    with jax.enable_x64(True):
        assert_follows(loss, reference, LOGITS, LABELS, rtol=1e-10, atol=1e-14)


@each_pair
@settings(max_examples=15, deadline=None)
@given(
    logits=hnp.arrays(np.float64, (5, 4), elements=st.floats(-30, 30)),
    labels=hnp.arrays(np.int32, (5, 4), elements=st.integers(0, 1)),
)
def test_values_and_gradients_follow_the_formula_for_all_logits(loss, reference, logits, labels):
    with jax.enable_x64(True):
        assert_follows(loss, reference, logits, labels, rtol=1e-6, atol=1e-12)


GOLDEN = {  # of the first example, whose labels are 1, 0, 0, 0
    "bce": [0.126928011, 0.974076984, 0.313261688, 3.048587352],
    "wbce": [2.41163221, 0.974076984, 0.313261688, 3.048587352],
    "ldam": [0.183503916, 1.102396194, 0.382539208, 3.229835375],
    "ldam, other scale": [0.0, 20.964530467, 0.0, 95.684022971],
    "asl": [0.126928011, 0.091253004, 0.000567798, 1.545390539],
    "ral": [0.02548676, 0.033274935, 3.6348e-05, 1.076680766],
}


def test_golden_values():
    """Formulas and code cannot change together."""
    for name, expected in GOLDEN.items():
        value = LOSSES[name][0](LOGITS[0].astype(np.float32), LABELS[0])
        np.testing.assert_allclose(value, expected, rtol=2e-6, atol=1e-8, err_msg=name)


def test_special_cases_are_cross_entropy():
    batch = LOGITS.astype(np.float32), LABELS
    expected = sigmoid_cross_entropy_loss(*batch)
    for same in (
        sigmoid_focal_loss(*batch, gamma=0.0),
        sigmoid_ldam_loss(*batch, np.zeros((4, 2)), scale=1.0),
        sigmoid_lmf_loss(*batch, np.zeros((4, 2)), scale=1.0, beta=7.0),
        sigmoid_lmf_loss(*batch, np.ones((4, 2)), alpha=0.0, gamma=0.0),
        counted(sigmoid_logit_adjusted_loss)(*batch, tau=0.0),
        sigmoid_logit_adjusted_loss(*batch, [3] * 4, [3] * 4, tau=2.0),
        asymmetric_loss(*batch, gamma_negative=0.0, clip=0.0),
        counted(distribution_balanced_loss)(
            *batch, gamma=0.0, alpha=0.5, beta=0.0, negative_scale=1.0, kappa=0.0
        )
        / np.where(LABELS.any(1, keepdims=True), np.float32(1), np.float32(1.5)),
    ):
        np.testing.assert_allclose(same, expected, rtol=2e-6)


def test_the_asymmetric_loss_without_a_clip_is_focal():
    batch = LOGITS.astype(np.float32), LABELS
    symmetric = asymmetric_loss(*batch, gamma_positive=2.0, gamma_negative=2.0, clip=0.0)
    np.testing.assert_allclose(symmetric, sigmoid_focal_loss(*batch, gamma=2.0), rtol=2e-6)


def test_cross_entropy_is_that_of_pytorch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor(LOGITS),
        torch.tensor(LABELS).double(),
        reduction="none",
        pos_weight=torch.tensor(WEIGHTS),
    )
    weights = positive_weights(POSITIVE, NEGATIVE)
    found = sigmoid_cross_entropy_loss(LOGITS.astype(np.float32), LABELS, weights)
    np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_margins_are_those_of_the_formula():
    np.testing.assert_allclose(label_margins(POSITIVE, NEGATIVE), MARGINS, rtol=1e-6)
    assert label_margins(POSITIVE, NEGATIVE, max_margin=2.0).max() == 2


def test_a_correct_positive_keeps_its_digits_in_float32():
    """-log p - (1 - p) is lost in float32 where both are nearly equal."""
    logits = np.linspace(-10, 8, 301)[:, None]
    expected = ral(logits, np.ones_like(logits))
    found = robust_asymmetric_loss(logits.astype(np.float32), np.ones((301, 1), int))
    np.testing.assert_allclose(found, expected, rtol=5e-6)


@each_loss
def test_jit_vmap_pmap_and_leading_axes_give_the_same_values(loss):
    logits, labels = LOGITS.astype(np.float32), LABELS
    expected = loss(logits, labels)
    assert expected.shape == (4, 4)
    assert expected.dtype == jnp.float32
    np.testing.assert_allclose(jax.jit(loss)(logits, labels), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(loss)(logits, labels), expected, rtol=1e-6)
    dense = loss(logits.reshape(2, 2, 1, 4), labels.reshape(2, 2, 1, 4))
    np.testing.assert_allclose(dense.reshape(4, 4), expected, rtol=1e-6)
    np.testing.assert_allclose(loss(logits[0], labels[0]), expected[0], rtol=1e-6)
    spread = jax.pmap(loss)(logits.reshape(4, 1, 4), labels.reshape(4, 1, 4))
    np.testing.assert_allclose(spread.reshape(4, 4), expected, rtol=1e-6)


@each_loss
def test_gradients_are_those_of_finite_differences(loss):
    with jax.enable_x64(True):
        labels = jnp.asarray(LABELS)
        logits = jnp.asarray(LOGITS) / 8  # where 30 z is not saturated
        check_grads(lambda z: loss(z, labels), (logits,), order=2, modes=["fwd", "rev"])


EXTREMES = np.array([1e4, 100, 89, 20, 1, 1e-4, 0, -1, -3, -20, -89, -100, -1e4])


@each_loss
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_value_gradient_and_hessian_are_finite_at_extreme_logits(loss, dtype):
    logits = jnp.asarray(np.stack([np.roll(EXTREMES, shift) for shift in range(4)], 1), dtype)
    for labels in ([0, 0, 0, 0], [1, 1, 1, 1], [1, 0, -1, 0]):
        one = partial(lambda y, z: loss(z, y).sum(), jnp.array(labels))
        for derivative in (one, jax.grad(one), jax.hessian(one)):
            assert jnp.isfinite(jax.vmap(derivative)(logits)).all()


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.5, 1.0, 1.5, 2.0, 5.0])
def test_every_gamma_is_finite_to_the_second_derivative(gamma):
    logits = jnp.asarray(np.stack([EXTREMES] * 4, 1), jnp.float32)
    losses = [
        partial(sigmoid_focal_loss, gamma=gamma),
        partial(asymmetric_loss, gamma_positive=gamma, gamma_negative=gamma, clip=0.0),
        partial(asymmetric_loss, gamma_positive=gamma, gamma_negative=gamma),
        partial(robust_asymmetric_loss, gamma_positive=gamma, gamma_negative=gamma),
    ]

    def total(labels, z):
        return sum(loss(z, labels).sum() for loss in losses)

    for label in (0, 1):
        one = partial(total, jnp.full(4, label))
        for derivative in (one, jax.grad(one), jax.hessian(one)):
            assert jnp.isfinite(jax.vmap(derivative)(logits)).all()


def test_half_precision_is_computed_in_float32():
    logits = jnp.asarray(LOGITS, jnp.bfloat16)
    value = sigmoid_lmf_loss(logits, LABELS, MARGINS)
    assert value.dtype == jnp.float32
    expected = sigmoid_lmf_loss(logits.astype(jnp.float32), LABELS, MARGINS)
    np.testing.assert_array_equal(value, expected)


@each_loss
def test_missing_and_masked_labels_are_exactly_zero_whatever_they_hold(loss):
    clean, labels = jnp.asarray(LOGITS, jnp.float32), jnp.asarray(LABELS)
    # Negative labels, so that the weights of an example by its positives stay.
    missing = np.zeros((4, 4), bool)
    missing[0, 3] = missing[1, 0] = True
    masked = np.zeros((4, 4), bool)
    masked[2] = masked[0, 2] = True
    absent = missing | masked
    logits = jnp.where(absent, jnp.array([jnp.nan, jnp.inf, -jnp.inf, jnp.nan]), clean)
    values, gradient = value_and_derivative(
        lambda z, y: loss(z, y, where=jnp.asarray(~masked)),
        logits,
        jnp.where(missing, -1, jnp.where(masked, 99, labels)),
    )
    np.testing.assert_array_equal(values[absent], 0)
    np.testing.assert_array_equal(gradient[absent], 0)
    expected = value_and_derivative(loss, clean, labels)
    np.testing.assert_allclose(values[~absent], expected[0][~absent], rtol=1e-6)
    np.testing.assert_allclose(gradient[~absent], expected[1][~absent], rtol=1e-6, atol=1e-20)


@each_loss
def test_a_mask_over_leading_axes_masks_whole_images(loss):
    logits = jnp.stack([jnp.full((4, 4), jnp.nan), jnp.asarray(LOGITS, jnp.float32)])
    labels = jnp.stack([jnp.asarray(LABELS)] * 2)
    values = loss(logits, labels, where=jnp.array([False, True]))
    np.testing.assert_array_equal(values[0], 0)
    np.testing.assert_allclose(values[1], loss(logits[1], labels[1]), rtol=1e-6)


@each_loss
def test_a_label_of_another_value_is_nan_and_never_a_number(loss):
    values = loss(LOGITS[:2].astype(np.float32), np.array([[0, 2, -1, 1], [0, -5, 0, 1]]))
    np.testing.assert_array_equal(jnp.isnan(values), np.array([[0, 1, 0, 0], [0, 1, 0, 0]]) == 1)


def test_an_example_without_positive_labels_has_the_largest_weight():
    loss = counted(distribution_balanced_loss, gamma=0.0, kappa=0.0, negative_scale=1.0)
    values = loss(np.zeros((2, 4), np.float32), np.array([[0, 0, 0, 0], [0, -1, -1, 0]]))
    np.testing.assert_allclose(values[values > 0], 1.1 * np.log(2), rtol=1e-6)


BATCH = (LOGITS.astype(np.float32), LABELS)
BAD_CALLS = [
    (lambda: sigmoid_cross_entropy_loss(BATCH[0], LABELS[:3]), ValueError, r"\(4, 4\).*\(3, 4\)"),
    (lambda: sigmoid_cross_entropy_loss(BATCH[0], LABELS * 1.0), TypeError, "labels are float"),
    (lambda: sigmoid_cross_entropy_loss(LABELS, LABELS), TypeError, "logits are int"),
    (lambda: sigmoid_cross_entropy_loss(*BATCH, [1.0]), ValueError, r"positive_weights.*\(1,\)"),
    (lambda: sigmoid_cross_entropy_loss(BATCH[0][0, 0], 1), ValueError, r"shape \(\)"),
    (lambda: sigmoid_cross_entropy_loss("x", LABELS), TypeError, "logits are 'x'"),
    (
        lambda: sigmoid_cross_entropy_loss(*BATCH, where=np.ones((4, 4))),
        TypeError,
        "where is float",
    ),
    (
        lambda: sigmoid_cross_entropy_loss(*BATCH, where=np.ones(3, bool)),
        ValueError,
        r"where has shape \(3,\) and labels \(4, 4\)",
    ),
    (lambda: sigmoid_ldam_loss(*BATCH, MARGINS[:2]), ValueError, r"margins.*\(2, 2\).*\(4, 4\)"),
    (
        lambda: sigmoid_focal_loss(*BATCH, -MARGINS),
        ValueError,
        "label_weights holds -0.*value 0 of label 0",
    ),
    (lambda: sigmoid_focal_loss(*BATCH, gamma=-1), ValueError, "gamma is -1"),
    (lambda: sigmoid_ldam_loss(*BATCH, MARGINS, scale=0), ValueError, "scale is 0"),
    (lambda: sigmoid_lmf_loss(*BATCH, MARGINS, beta=-1), ValueError, "beta is -1"),
    (lambda: asymmetric_loss(*BATCH, clip=1.0), ValueError, r"clip is 1\.0"),
    (lambda: asymmetric_loss(*BATCH, gamma_positive=-1), ValueError, "gamma_positive is -1"),
    (lambda: robust_asymmetric_loss(*BATCH, hill_lambda=0), ValueError, "hill_lambda is 0"),
    (
        lambda: robust_asymmetric_loss(*BATCH, first_epsilon=np.inf),
        ValueError,
        "first_epsilon is inf; expected a finite number",
    ),
    (
        lambda: counted(distribution_balanced_loss)(*BATCH, negative_scale=0),
        ValueError,
        "negative_scale is 0",
    ),
    (
        lambda: distribution_balanced_loss(*BATCH, [1, 2, 0, 4], [1] * 4),
        ValueError,
        "Label 2 has no positive training example",
    ),
    (
        lambda: sigmoid_logit_adjusted_loss(*BATCH, [1] * 4, [1, 0, 1, 1]),
        ValueError,
        "Label 1 has no negative training example",
    ),
    (
        lambda: label_margins([1, 2], [1, 2, 3]),
        ValueError,
        "There are 2 positive_counts and 3 negative_counts",
    ),
    (lambda: label_margins([1, -2], [1, 2]), ValueError, "positive_counts holds -2 for label 1"),
    (lambda: label_margins([1, 2], [1, np.nan]), ValueError, "negative_counts holds nan"),
    (lambda: label_margins([], []), ValueError, r"positive_counts has shape \(0,\)"),
    (lambda: label_margins(["a"], [1]), TypeError, "positive_counts are"),
    (
        lambda: jax.jit(label_margins)(jnp.ones(2), jnp.ones(2)),
        TypeError,
        "positive_counts is traced",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD_CALLS)
def test_bad_input_is_named_before_anything_runs(call, error, message, monkeypatch):
    # Without the checks of the annotations, which a user does not have.
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    with pytest.raises(error, match=message):
        call()


def test_a_single_label_is_enough():
    value = sigmoid_lmf_loss(jnp.array([[0.5]]), jnp.array([[1]]), label_margins([3], [9]))
    assert value.shape == (1, 1)


def test_the_examples_in_the_docstrings_hold():
    failed, tried = doctest.testmod(lmf_jax.losses.multilabel_cross_entropy_losses)
    assert tried > 0
    assert failed == 0
