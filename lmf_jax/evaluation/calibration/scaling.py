"""Temperature and vector scaling: fit calibrated probabilities on the logits of validation images.

Both are from Guo et al., "On Calibration of Modern Neural Networks", 2017, Section 4.2, and
minimize the log loss of the validation images.
"""

import numpy as np
from jaxtyping import Float, Integer
from scipy import optimize, special

TEMPERATURE_BOUNDS = (1e-2, 1e3)
"""Smallest and largest temperature."""

Logits = Float[np.ndarray, "n classes"]
Labels = Integer[np.ndarray, " n"]


def fit_temperature(labels: Labels, logits: Logits) -> float:
    """Return the temperature ``T`` that minimizes the log loss of ``softmax(logits / T)``.

    The log loss is convex in ``1 / T``, so its derivative has at most one root. If the log loss
    falls down to the smallest temperature, as when every example is classified correctly, the
    examples do not determine ``T``: the result is then the temperature at which the mean largest
    probability is ``(n + 1) / (n + 2)``, the rule of succession for ``n`` correct predictions. The
    result always lies in ``TEMPERATURE_BOUNDS``; it is 1 if the logits of each example are equal.

    Args:
        labels: Class ids ``[n]``.
        logits: Scores ``[n, C]``.

    Returns:
        The temperature, in float64.

    Raises:
        ValueError: If there is no example, a logit is NaN or infinite, or a label is no class id.
    """
    _check(labels, logits)
    below = _below_largest(logits)
    own = below[np.arange(len(labels)), labels]
    if not below.any():
        return 1.0

    def slope(log_sharpness: float) -> float:
        """Return the derivative of the log loss with respect to ``1 / T``."""
        probabilities = special.softmax(np.exp(log_sharpness) * below, axis=1)
        return float(np.mean((probabilities * below).sum(axis=1) - own))

    def excess_confidence(log_sharpness: float) -> float:
        confidence = 1 / np.exp(np.exp(log_sharpness) * below).sum(axis=1)
        return float(confidence.mean() - (len(own) + 1) / (len(own) + 2))

    flat, sharp = (-np.log(bound) for bound in reversed(TEMPERATURE_BOUNDS))
    balance = slope if slope(sharp) > 0 else excess_confidence
    if balance(flat) >= 0:
        return TEMPERATURE_BOUNDS[1]
    if balance(sharp) <= 0:
        return TEMPERATURE_BOUNDS[0]
    temperature = np.exp(-optimize.brentq(balance, flat, sharp, xtol=1e-12))
    return float(np.clip(temperature, *TEMPERATURE_BOUNDS))


def fit_vector(
    labels: Labels, logits: Logits, temperature: float
) -> tuple[Float[np.ndarray, " classes"], Float[np.ndarray, " classes"]]:
    """Fit a weight and a bias per class: ``softmax(weights * logits + bias)``.

    The summed log loss has the penalty ``sum((weights * T - 1)**2 + bias**2) / 2``, a normal prior
    around temperature scaling: the weights and biases of rare and absent classes stay finite and
    near it. The solution is unique, because log loss and penalty are convex.

    Args:
        labels: Class ids ``[n]``.
        logits: Scores ``[n, C]``.
        temperature: Output of :func:`fit_temperature` for the same examples.

    Returns:
        ``weights`` and ``bias``, each ``[C]`` in float64. They are those of temperature scaling if
        the optimizer finds nothing better.

    Raises:
        ValueError: If there is no example, a logit is NaN or infinite, or a label is no class id.
    """
    _check(labels, logits)
    num_classes = logits.shape[1]
    scaled = logits.astype(np.float64) / temperature
    is_own = labels[:, None] == np.arange(num_classes)

    def penalized_loss(
        parameters: Float[np.ndarray, " parameters"],
    ) -> tuple[float, Float[np.ndarray, " parameters"]]:
        weights, bias = np.split(parameters, 2)
        log_probabilities = special.log_softmax(weights * scaled + bias, axis=1)
        residuals = np.exp(log_probabilities) - is_own
        loss = -log_probabilities[is_own].sum()
        loss += ((weights - 1) ** 2 + bias**2).sum() / 2
        gradient = [(residuals * scaled).sum(axis=0) + weights - 1, residuals.sum(axis=0) + bias]
        # The mean keeps the tolerances of the optimizer independent of the number of examples.
        return loss / len(labels), np.concatenate(gradient) / len(labels)

    start = np.concatenate([np.ones(num_classes), np.zeros(num_classes)])
    with np.errstate(over="ignore", invalid="ignore"):  # A step too far is taken back.
        found = optimize.minimize(
            penalized_loss,
            start,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 1000, "ftol": 1e-13, "gtol": 1e-8},
        )
    is_better = np.isfinite(found.x).all() and found.fun < penalized_loss(start)[0]
    weights, bias = np.split(found.x if is_better else start, 2)
    return weights / temperature, bias


def log_loss(labels: Labels, logits: Logits) -> float:
    """Return the mean log loss of ``softmax(logits)``, finite for finite logits.

    Args:
        labels: Class ids ``[n]``.
        logits: Scores ``[n, C]``.
    """
    below = _below_largest(logits)
    log_normalizer = np.log(np.exp(below).sum(axis=1))
    return float(np.mean(log_normalizer - below[np.arange(len(labels)), labels]))


def _below_largest(logits: Logits) -> Logits:
    """Subtract the largest logit of each example, which changes no probability."""
    exact = logits.astype(np.float64)
    return exact - exact.max(axis=1, keepdims=True)


def _check(labels: Labels, logits: Logits) -> None:
    if len(labels) == 0:
        raise ValueError("There are no examples to calibrate with; expected at least one label.")
    if not np.isfinite(logits).all():
        raise ValueError("The logits contain NaN or infinity; expected finite numbers.")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(
            f"The labels run from {labels.min()} to {labels.max()}; expected class ids from 0 to "
            f"{logits.shape[1] - 1}."
        )
