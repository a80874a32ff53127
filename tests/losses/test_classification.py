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

import lmf_jax.losses.margin_losses
from lmf_jax import class_margins, cross_entropy_loss, focal_loss, ldam_loss, lmf_loss
from lmf_jax.losses import balanced_softmax_loss, logit_adjusted_loss

COUNTS = [100, 20, 5]
MARGINS = class_margins(COUNTS)
LOGITS = jnp.array([[2, 0.5, -1], [0.1, 0.3, 0.2], [-0.4, 1.2, 0.9], [1, -1, 0.8]])
LABELS = jnp.array([0, 1, 2, 2])

LOSSES = {
    "cross entropy": partial(cross_entropy_loss, class_weights=MARGINS),
    "focal": partial(focal_loss, class_weights=MARGINS),
    "ldam": partial(ldam_loss, margins=MARGINS),
    "lmf": partial(lmf_loss, margins=MARGINS, alpha=1.5, beta=0.5),
    "balanced softmax": partial(balanced_softmax_loss, class_counts=COUNTS),
    "logit adjustment": partial(logit_adjusted_loss, class_counts=COUNTS, tau=0.7),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def reference(logits, labels, *, margins=(0, 0, 0), scale=1.0, gamma=0.0, weights=(1, 1, 1)):
    """One formula for all: weighted focal of a softmax with margins, in NumPy and float64."""
    values = []
    for z, y in zip(np.asarray(logits, np.float64), np.asarray(labels), strict=True):
        z = scale * (z - np.asarray(margins) * (np.arange(len(z)) == y))
        p = np.exp(z - np.logaddexp.reduce(z))[y]
        values.append(-weights[y] * (1 - p) ** gamma * np.log(p))
    return np.array(values)


@pytest.mark.parametrize(
    ("loss", "settings"),
    [
        (cross_entropy_loss, {}),
        (partial(cross_entropy_loss, class_weights=MARGINS), {"weights": MARGINS}),
        (partial(focal_loss, gamma=2.0), {"gamma": 2.0}),
        (partial(focal_loss, class_weights=MARGINS), {"gamma": 1.5, "weights": MARGINS}),
        (partial(ldam_loss, margins=MARGINS), {"margins": MARGINS, "scale": 30.0}),
        (partial(ldam_loss, margins=MARGINS, scale=1.0), {"margins": MARGINS}),
    ],
)
def test_values_follow_the_definition(loss, settings):
    expected = reference(LOGITS, LABELS, **settings)
    # The reference itself ends at 1e-16 of a probability of 1.
    np.testing.assert_allclose(loss(LOGITS, LABELS), expected, rtol=2e-6, atol=1e-15)


def test_lmf_is_alpha_ldam_plus_beta_focal():
    ldam = ldam_loss(LOGITS, LABELS, MARGINS, scale=7.0)
    focal = focal_loss(LOGITS, LABELS, MARGINS, gamma=0.5)
    lmf = lmf_loss(LOGITS, LABELS, MARGINS, alpha=0.7, beta=1.3, gamma=0.5, scale=7.0)
    np.testing.assert_allclose(lmf, 0.7 * ldam + 1.3 * focal, rtol=1e-6)
    np.testing.assert_allclose(
        lmf_loss(LOGITS, LABELS, MARGINS, beta=0.0), ldam_loss(LOGITS, LABELS, MARGINS), rtol=1e-6
    )


def test_special_cases_are_cross_entropy():
    expected = cross_entropy_loss(LOGITS, LABELS)
    zeros = jnp.zeros(3)
    for same in (
        focal_loss(LOGITS, LABELS, gamma=0.0),
        ldam_loss(LOGITS, LABELS, zeros, scale=1.0),
        logit_adjusted_loss(LOGITS, LABELS, COUNTS, tau=0.0),
        logit_adjusted_loss(LOGITS, LABELS, [7, 7, 7], tau=2.0),
    ):
        np.testing.assert_allclose(same, expected, rtol=1e-6)


def test_balanced_softmax_is_a_softmax_over_counted_exponentials():
    counted = np.array(COUNTS) * np.exp(np.asarray(LOGITS, np.float64))
    expected = -np.log((counted / counted.sum(-1, keepdims=True))[np.arange(4), LABELS])
    np.testing.assert_allclose(balanced_softmax_loss(LOGITS, LABELS, COUNTS), expected, rtol=1e-6)
    np.testing.assert_allclose(logit_adjusted_loss(LOGITS, LABELS, COUNTS), expected, rtol=1e-6)


def test_the_released_parts_equal_pytorch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    logits, labels = torch.tensor(np.array(LOGITS)), torch.tensor(np.array(LABELS)).long()
    margins = torch.tensor(np.array(MARGINS))
    shifted = logits - margins[labels][:, None] * torch.nn.functional.one_hot(labels, 3)
    expected = torch.nn.functional.cross_entropy(30 * shifted, labels, reduction="none")
    np.testing.assert_allclose(ldam_loss(LOGITS, LABELS, MARGINS), expected, rtol=2e-6, atol=1e-15)


@settings(max_examples=50, deadline=None)
@given(
    logits=hnp.arrays(np.float32, (5, 4), elements=st.floats(-50, 50, width=32)),
    labels=hnp.arrays(np.int32, 5, elements=st.integers(0, 3)),
    gamma=st.floats(0, 5),
)
def test_focal_lies_between_zero_and_cross_entropy(logits, labels, gamma):
    focal = focal_loss(logits, labels, gamma=gamma)
    cross_entropy = cross_entropy_loss(logits, labels)
    assert (focal >= 0).all()
    assert (focal <= cross_entropy * (1 + 1e-6)).all()


@every_loss
def test_jit_vmap_and_leading_axes_give_the_same_values(loss):
    expected = loss(LOGITS, LABELS)
    assert expected.shape == (4,)
    assert expected.dtype == jnp.float32
    np.testing.assert_allclose(jax.jit(loss)(LOGITS, LABELS), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(loss)(LOGITS, LABELS), expected, rtol=1e-6)
    dense = loss(LOGITS.reshape(2, 2, 1, 3), LABELS.reshape(2, 2, 1))
    np.testing.assert_allclose(dense.reshape(4), expected, rtol=1e-6)
    np.testing.assert_allclose(loss(LOGITS[0], LABELS[0]), expected[0], rtol=1e-6)
    spread = jax.pmap(loss)(LOGITS.reshape(4, 1, 3), LABELS.reshape(4, 1))
    np.testing.assert_allclose(spread.reshape(4), expected, rtol=1e-6)


@every_loss
def test_gradients_are_those_of_finite_differences(loss):
    with jax.enable_x64(True):
        logits = jnp.asarray(np.asarray(LOGITS), jnp.float64) / 20  # where 30 z is not saturated
        labels = jnp.asarray(np.asarray(LABELS))
        check_grads(lambda z: loss(z, labels), (logits,), order=2, modes=["fwd", "rev"])


@every_loss
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_value_gradient_and_hessian_are_finite_at_extreme_logits(loss, dtype):
    extremes = np.array([1e4, 100, 1, 0, -1, -100, -1e4])
    logits = np.stack(np.meshgrid(extremes, extremes, extremes), -1).reshape(-1, 3)
    logits = jnp.asarray(logits, dtype)
    for label in range(3):
        one = partial(lambda y, z: loss(z, y), jnp.array(label))
        for derivative in (one, jax.grad(one), jax.hessian(one)):
            assert jnp.isfinite(jax.vmap(derivative)(logits)).all()


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.5, 1.0, 1.5, 2.0, 5.0])
@pytest.mark.parametrize("loss", [focal_loss, lmf_loss])
def test_every_gamma_is_finite_to_the_second_derivative(loss, gamma):
    logits = jnp.array([[40.0, 0, 0], [1e4, -1e4, 0], [-1e4, 1e4, 1e4], [0, 0, 0], [88, -88, 3]])
    one = partial(lambda y, z: loss(z, y, MARGINS, gamma=gamma), jnp.array(0))
    for derivative in (one, jax.grad(one), jax.hessian(one)):
        assert jnp.isfinite(jax.vmap(derivative)(logits)).all()


def test_a_confident_example_keeps_its_digits():
    # Of 1 + exp(-40) float32 keeps nothing; the loss is exp(-40) all the same.
    loss = cross_entropy_loss(jnp.array([40.0, 0.0]), jnp.array(0))
    np.testing.assert_allclose(loss, np.exp(-40.0), rtol=1e-5)


def test_half_precision_is_computed_in_float32():
    logits = LOGITS.astype(jnp.bfloat16)
    value = lmf_loss(logits, LABELS, MARGINS)
    assert value.dtype == jnp.float32
    expected = lmf_loss(logits.astype(jnp.float32), LABELS, MARGINS)
    np.testing.assert_array_equal(value, expected)
    gradient = jax.grad(lambda z: lmf_loss(z, LABELS, MARGINS).sum())(logits)
    assert gradient.dtype == jnp.bfloat16


@every_loss
def test_masked_examples_are_exactly_zero_whatever_they_hold(loss):
    logits = LOGITS.at[1].set(jnp.nan).at[3].set(jnp.inf)
    labels = LABELS.at[1].set(-1).at[3].set(99)
    where = jnp.array([True, False, True, False])
    values = loss(logits, labels, where=where)
    gradient = jax.grad(lambda z: loss(z, labels, where=where).sum())(logits)
    np.testing.assert_array_equal(values[~where], 0)
    np.testing.assert_array_equal(gradient[~where], 0)
    np.testing.assert_allclose(values[where], loss(LOGITS, LABELS)[where], rtol=1e-6)
    expected = jax.grad(lambda z: loss(z, LABELS).sum())(LOGITS)
    np.testing.assert_allclose(gradient[where], expected[where], rtol=1e-6, atol=1e-20)


@every_loss
def test_a_mask_over_leading_axes_masks_whole_images(loss):
    logits = jnp.broadcast_to(LOGITS, (2, 4, 3))
    labels = jnp.broadcast_to(LABELS, (2, 4))
    values = loss(logits, labels, where=jnp.array([False, True]))
    np.testing.assert_array_equal(values[0], 0)
    np.testing.assert_allclose(values[1], loss(LOGITS, LABELS), rtol=1e-6)


@every_loss
def test_a_label_outside_the_classes_is_nan_and_never_a_number(loss):
    values = loss(LOGITS, jnp.array([0, -1, 3, 2]))
    np.testing.assert_array_equal(jnp.isnan(values), [False, True, True, False])


BAD_CALLS = [
    (lambda: lmf_loss(LOGITS, LABELS[:3], MARGINS), ValueError, r"\(4, 3\).*\(3,\)"),
    (lambda: lmf_loss(LOGITS, LABELS, MARGINS[:2]), ValueError, r"margins.*\(2,\).*\(4, 3\)"),
    (
        lambda: focal_loss(LOGITS, LABELS, jnp.ones(4)),
        ValueError,
        r"class_weights.*\(4,\).*\(4, 3\)",
    ),
    (lambda: lmf_loss(LOGITS, LABELS.astype(float), MARGINS), TypeError, "labels are float32"),
    (lambda: lmf_loss(LABELS, LABELS, MARGINS), TypeError, "logits are int32"),
    (lambda: focal_loss(LOGITS, LABELS, gamma=-0.1), ValueError, r"gamma is -0\.1"),
    (lambda: focal_loss(LOGITS, LABELS, gamma=float("nan")), ValueError, "gamma is nan"),
    (lambda: lmf_loss(LOGITS, LABELS, MARGINS, gamma=-1), ValueError, "gamma is -1"),
    (lambda: lmf_loss(LOGITS, LABELS, MARGINS, alpha=-1), ValueError, "alpha is -1"),
    (lambda: lmf_loss(LOGITS, LABELS, MARGINS, beta=-1), ValueError, "beta is -1"),
    (lambda: ldam_loss(LOGITS, LABELS, MARGINS, scale=0), ValueError, "scale is 0"),
    (lambda: logit_adjusted_loss(LOGITS, LABELS, COUNTS, tau=-2), ValueError, "tau is -2"),
    (lambda: balanced_softmax_loss(LOGITS, LABELS, [3, 0, 1]), ValueError, "Class 1 has 0"),
    (
        lambda: ldam_loss(LOGITS, LABELS, jnp.array([0.1, jnp.inf, 0.2])),
        ValueError,
        "margins holds inf for class 1",
    ),
    (
        lambda: cross_entropy_loss(LOGITS, LABELS, jnp.array([1.0, 1.0, -1.0])),
        ValueError,
        r"class_weights holds -1\.0 for class 2",
    ),
    (lambda: cross_entropy_loss(LOGITS[:, :1], LABELS), ValueError, r"\(4, 1\).*two or more"),
    (
        lambda: cross_entropy_loss(LOGITS, LABELS, where=jnp.ones(4)),
        TypeError,
        "where is float32",
    ),
    (
        lambda: cross_entropy_loss(LOGITS, LABELS, where=jnp.ones(3, bool)),
        ValueError,
        r"where has shape \(3,\) and labels \(4,\)",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD_CALLS)
def test_bad_input_is_named_before_anything_runs(call, error, message, monkeypatch):
    # Without the checks of the annotations, which a user does not have.
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    with pytest.raises(error, match=message):
        call()


def test_the_examples_in_the_docstrings_hold():
    failed, tried = doctest.testmod(lmf_jax.losses.margin_losses)
    assert tried > 0
    assert failed == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16])
def test_narrow_labels_mean_what_wide_ones_do(dtype):
    logits = jnp.asarray(np.random.RandomState(0).normal(size=(3, 1000)), jnp.float32)
    labels = np.array([0, 5, 127])
    narrow = cross_entropy_loss(logits, labels.astype(dtype))
    np.testing.assert_array_equal(narrow, cross_entropy_loss(logits, labels.astype(np.int32)))
