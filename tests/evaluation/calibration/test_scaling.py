"""Temperature and vector scaling against brute force and a reference in float64."""

import numpy as np
import pytest
from scipy import special

from lmf_jax.evaluation.calibration import fit_temperature, fit_vector, log_loss
from lmf_jax.evaluation.calibration.scaling import TEMPERATURE_BOUNDS


def sample(temperature=1.0, n=4000, classes=5, seed=0, spread=2.0):
    """Return labels drawn from ``softmax(logits / temperature)``, and the logits in float32."""
    rng = np.random.default_rng(seed)
    logits = (temperature * spread * rng.normal(size=(n, classes))).astype(np.float32)
    probabilities = special.softmax(logits.astype(float) / temperature, axis=1)
    labels = (rng.random((n, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    return np.minimum(labels, classes - 1), logits


def reference_loss(labels, logits):
    """Return the mean log loss, one example at a time."""
    losses = [
        special.logsumexp(row) - row[label]
        for row, label in zip(logits.astype(float), labels, strict=True)
    ]
    return np.mean(losses)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 3.0, 40.0])
def test_the_temperature_of_simulated_logits_is_recovered(temperature):
    labels, logits = sample(temperature)
    assert fit_temperature(labels, logits) == pytest.approx(temperature, rel=0.06)


@pytest.mark.parametrize("seed", range(3))
def test_no_temperature_of_a_fine_grid_has_a_smaller_log_loss(seed):
    labels, logits = sample(2.0, n=60, seed=seed)
    logits = logits.astype(float)
    fitted = fit_temperature(labels, logits)
    grid = fitted * np.exp(np.linspace(-3, 3, 601))
    losses = [reference_loss(labels, logits / temperature) for temperature in grid]
    assert np.argmin(losses) == 300
    assert log_loss(labels, logits / fitted) == pytest.approx(min(losses), abs=1e-12)


def test_one_wrong_example_among_many_gives_a_finite_minimum():
    labels = np.arange(50) % 3
    logits = 8 * np.eye(3)[labels]
    logits[0] = [0, 1, 0]
    fitted = fit_temperature(labels, logits)
    losses = [reference_loss(labels, logits / t) for t in (0.99 * fitted, fitted, 1.01 * fitted)]
    assert losses[1] < losses[0] and losses[1] < losses[2]


@pytest.mark.parametrize("score", [0.1, 1.0, 100.0, 1e5])
@pytest.mark.parametrize("n", [1, 45, 1500])
def test_correct_predictions_alone_give_no_more_confidence_than_their_number_supports(n, score):
    labels = np.arange(n) % 3
    logits = (score * np.eye(3)[labels]).astype(np.float32)
    fitted = fit_temperature(labels, logits)
    assert TEMPERATURE_BOUNDS[0] <= fitted <= TEMPERATURE_BOUNDS[1]
    confidence = special.softmax(logits.astype(float) / fitted, axis=1).max()
    if score < 1e4:
        assert confidence == pytest.approx((n + 1) / (n + 2), rel=1e-9)
    else:  # The bound is reached.
        assert fitted == TEMPERATURE_BOUNDS[1]


@pytest.mark.parametrize(
    ("labels", "logits", "expected"),
    [
        ([0, 1, 2], np.zeros((3, 3)), 1.0),
        ([0, 1, 2], np.full((3, 3), 7.5), 1.0),
        ([0, 0], np.zeros((2, 1)), 1.0),
        ([1, 2, 0], 3 * np.eye(3), TEMPERATURE_BOUNDS[1]),
        ([1], np.array([[0.5, 0.2, 0.1]]), TEMPERATURE_BOUNDS[1]),
        ([0, 0], np.float32([[0, 1], [1e-30, 0]]), TEMPERATURE_BOUNDS[1]),
    ],
    ids=["zero", "equal", "one class", "all wrong", "one example", "tiny"],
)
def test_degenerate_logits_give_a_temperature_in_the_bounds(labels, logits, expected):
    assert fit_temperature(np.array(labels), logits) == expected


def test_logits_near_the_float32_maximum_are_calibrated():
    labels, logits = sample(n=30)
    huge = (logits / abs(logits).max() * np.finfo(np.float32).max).astype(np.float32)
    temperature = fit_temperature(labels, huge)
    weights, bias = fit_vector(labels, huge, temperature)
    assert temperature == TEMPERATURE_BOUNDS[1]
    assert np.isfinite(weights).all() and np.isfinite(bias).all()
    assert np.isfinite(log_loss(labels, huge.astype(float) / TEMPERATURE_BOUNDS[0]))


def test_vector_scaling_is_at_the_minimum_of_its_penalized_log_loss():
    labels, logits = sample(1.5, n=300, classes=3)
    temperature = fit_temperature(labels, logits)
    weights, bias = fit_vector(labels, logits, temperature)

    def objective(weights, bias):
        penalty = ((weights * temperature - 1) ** 2 + bias**2).sum() / 2
        return len(labels) * reference_loss(labels, weights * logits.astype(float) + bias) + penalty

    best = objective(weights, bias)
    rng = np.random.default_rng(0)
    for size in (1e-3, 1e-2, 0.1):
        for step in size * rng.normal(size=(20, 2, 3)):
            assert objective(weights + step[0], bias + step[1]) > best


def test_vector_scaling_recovers_the_weights_and_biases_of_simulated_logits():
    labels, calibrated = sample(n=20000, classes=3)
    true_weights, true_bias = np.array([0.5, 2.0, 1.0]), np.array([1.0, -0.5, -0.5])
    logits = (calibrated - true_bias) / true_weights
    weights, bias = fit_vector(labels, logits, fit_temperature(labels, logits))
    np.testing.assert_allclose(weights, true_weights, rtol=0.05)
    np.testing.assert_allclose(bias, true_bias, atol=0.08)


@pytest.mark.parametrize("absent", ["no class 2", "class 0 alone", "one example"])
def test_absent_classes_keep_finite_weights_near_temperature_scaling(absent):
    labels, logits = sample(n=400, classes=3)
    kept = {"no class 2": labels < 2, "class 0 alone": labels == 0, "one example": slice(1)}[absent]
    labels, logits = labels[kept], logits[kept]
    temperature = fit_temperature(labels, logits)
    weights, bias = fit_vector(labels, logits, temperature)
    assert abs(weights * temperature - 1).max() < 5 and abs(bias).max() < 8
    assert log_loss(labels, weights * logits + bias) < log_loss(labels, logits / temperature)


@pytest.mark.parametrize("fit", [fit_temperature, lambda *a: fit_vector(*a, 1.0)])
@pytest.mark.parametrize(
    ("labels", "logits", "message"),
    [
        ([], np.zeros((0, 3)), "no examples"),
        ([0, 1], [[0, np.nan], [1, 0]], "NaN or infinity"),
        ([0, 1], [[0, np.inf], [1, 0]], "NaN or infinity"),
        ([0, 2], np.zeros((2, 2)), "from 0 to 2"),
        ([-1, 1], np.zeros((2, 2)), "from -1 to 1"),
    ],
)
def test_invalid_examples_are_refused(fit, labels, logits, message):
    with pytest.raises(ValueError, match=message):
        fit(np.array(labels, int), np.array(logits, float))
