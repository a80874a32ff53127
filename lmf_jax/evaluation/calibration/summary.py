"""Calibration of a run: parameters fitted on validation, metrics before and after on the test."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float, Integer, Shaped

from lmf_jax.evaluation.calibration.calibrator import METHODS, Calibrator, Method
from lmf_jax.evaluation.calibration.scaling import fit_temperature, fit_vector, log_loss
from lmf_jax.evaluation.calibration_error import debiased_calibration_error
from lmf_jax.evaluation.classification.metrics import predicted_classes
from lmf_jax.evaluation.classification.scores import calibration, softmax
from lmf_jax.evaluation.resampling import Groups, num_units
from lmf_jax.evaluation.summary import SEED

Labels = Integer[np.ndarray, " n"]
Logits = Float[np.ndarray, "n classes"]
Part = tuple[
    Integer[np.ndarray, " _"], Float[np.ndarray, "_ classes"], Shaped[np.ndarray, " _"] | None
]
"""Labels, logits and groups of one of several parts, each of another size."""


def fit_calibrator(labels: Labels, logits: Logits, method: Method = "temperature") -> Calibrator:
    """Fit every method on validation images.

    Args:
        labels: Class ids ``[n]``.
        logits: Output of the model ``[n, C]``.
        method: The method that the calibrator uses.

    Raises:
        ValueError: If there is no example, a logit is NaN or infinite, or a label is no class id.
    """
    temperature = fit_temperature(labels, logits)
    return Calibrator(method, temperature, *fit_vector(labels, logits, temperature))


def summarize_calibration(
    calibrator: Calibrator,
    class_names: Sequence[str],
    *,
    validation: Part,
    test: Part,
) -> dict[str, Any]:
    """Compute the contents of ``calibration.json``.

    Args:
        calibrator: Fitted on the validation images.
        class_names: The ``C`` names by class id.
        validation: Labels ``[n]``, logits ``[n, C]`` and groups of the validation images.
        test: The same of the test images.

    Returns:
        ``method``, ``temperature``, ``vector`` (``weights`` and ``bias``), ``class_names``,
        ``validation`` (number of ``images`` and of independent ``units``) and ``metrics``: by
        method those of :func:`probability_metrics` on the test images, and ``validation_log_loss``.
    """
    labels, logits, groups = validation
    metrics: dict[str, Mapping[str, Any]] = {}
    for method in METHODS:
        chosen = replace(calibrator, method=method)
        of_test = probability_metrics(test[0], chosen.calibrate(test[1]), test[2])
        of_validation = log_loss(labels, chosen.calibrate(logits))
        metrics[method] = {**of_test, "validation_log_loss": of_validation}
    return {
        "method": calibrator.method,
        "temperature": calibrator.temperature,
        "vector": {"weights": calibrator.weights.tolist(), "bias": calibrator.bias.tolist()},
        "class_names": list(class_names),
        "validation": {"images": len(labels), "units": num_units(len(labels), groups)},
        "metrics": metrics,
    }


def probability_metrics(
    labels: Labels, logits: Logits, groups: Groups | None = None
) -> dict[str, Any]:
    """Compute the metrics of ``softmax(logits)`` as probabilities.

    Args:
        labels: Class ids ``[n]``.
        logits: Scores ``[n, C]``.
        groups: Lesion or patient of each example ``[n]``; None if all are independent.

    Returns:
        ``accuracy``; ``log_loss``; ``brier``, the mean of ``sum_c (p_c - y_c)^2``, in [0, 2] (Brier
        1950); ``ece``, debiased, in [0, 1], and ``ece_interval``, its ``[low, high]``; see
        :func:`lmf_jax.evaluation.calibration_error.debiased_calibration_error`.
    """
    probabilities = softmax(logits)
    error = debiased_calibration_error(calibration(labels, probabilities), groups=groups, seed=SEED)
    residuals = probabilities - (labels[:, None] == np.arange(logits.shape[1]))
    return {
        "accuracy": float(np.mean(predicted_classes(logits) == labels)),
        "log_loss": log_loss(labels, logits),
        "brier": float((residuals**2).sum(axis=1).mean()),
        "ece": error.value,
        "ece_interval": [error.low, error.high],
    }
