"""Calibrated probabilities of labels: one temperature, or one for each label.

The probability of a label is ``sigmoid(z / T)``, the softmax of the logits 0 and z at the
temperature T. Temperatures are fitted on validation by
:func:`lmf_jax.evaluation.calibration.fit_temperature`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Integer

from lmf_jax.evaluation.calibration import fit_temperature
from lmf_jax.evaluation.calibration.file import FILE_NAME
from lmf_jax.evaluation.calibration.scaling import TEMPERATURE_BOUNDS
from lmf_jax.evaluation.multilabel.scores import Labels, Logits, check_labels, sigmoid
from lmf_jax.runs.files import check, is_number, parse, read_text, require

LabelMethod = Literal["none", "temperature", "label-temperatures"]
LABEL_METHODS: tuple[LabelMethod, ...] = ("none", "temperature", "label-temperatures")

_KEYS = ("method", "temperature", "label_temperatures", "metrics")


@dataclass(frozen=True, eq=False)
class LabelCalibrator:
    """A method of calibration with the parameters of every method.

    Attributes:
        method: The method that is used: "none" leaves the logits as they are, "temperature" divides
            them by ``temperature``, "label-temperatures" by the temperature of their label.
        temperature: Positive.
        label_temperatures: Positive, ``[C]``.
    """

    method: LabelMethod
    temperature: float
    label_temperatures: Float[np.ndarray, " labels"]

    @classmethod
    def identity(cls, num_labels: int) -> "LabelCalibrator":
        """Return a calibrator that changes nothing."""
        return cls("none", 1.0, np.ones(num_labels))

    def used_parameters(self) -> dict[str, Any]:
        """Return the method with the parameters that it uses, JSON-serializable."""
        used: dict[str, Any] = {"method": self.method}
        if self.method == "temperature":
            used["temperature"] = self.temperature
        if self.method == "label-temperatures":
            used["label_temperatures"] = self.label_temperatures.tolist()
        return used

    def calibrate(self, logits: Float[np.ndarray, "*n labels"]) -> Float[np.ndarray, "*n labels"]:
        """Return logits whose sigmoid is calibrated, in float64.

        No method changes the order of the examples by a label, nor which logits are positive.

        Args:
            logits: Output of the model ``[..., C]``.
        """
        exact = logits.astype(np.float64)
        if self.method == "temperature":
            return exact / self.temperature
        if self.method == "label-temperatures":
            return exact / self.label_temperatures
        return exact

    def probabilities(
        self, logits: Float[np.ndarray, "*n labels"]
    ) -> Float[np.ndarray, "*n labels"]:
        """Return the calibrated probability of each label in float64.

        Args:
            logits: Output of the model ``[..., C]``.
        """
        return sigmoid(self.calibrate(logits))


def fit_label_calibrator(
    labels: Labels, logits: Logits, method: LabelMethod = "temperature"
) -> LabelCalibrator:
    """Fit every method on validation images.

    A label of which validation has no positive or no negative example does not determine a
    temperature and gets the common one.

    Args:
        labels: 0, 1 or -1 for a missing label, ``[n, C]``.
        logits: Output of the model ``[n, C]``.
        method: The method that the calibrator uses.

    Raises:
        ValueError: If there is no example or no label, a label is not 0, 1 or -1, or a logit whose
            label is present is NaN or infinite.
    """
    check_labels(labels, logits)
    present = labels != -1
    temperature = _fit(labels[present], logits[present])
    of_labels = [
        _fit(column[known], scores[known]) if {0, 1} <= set(column.tolist()) else temperature
        for column, scores, known in zip(labels.T, logits.T, present.T, strict=True)
    ]
    return LabelCalibrator(method, temperature, np.array(of_labels))


def _fit(labels: Integer[np.ndarray, " n"], logits: Float[np.ndarray, " n"]) -> float:
    return fit_temperature(labels, np.stack([np.zeros_like(logits), logits], axis=1))


def summarize_label_calibration(
    calibrator: LabelCalibrator, label_names: Sequence[str], labels: Labels, logits: Logits
) -> dict[str, Any]:
    """Compute the contents of ``calibration.json``.

    Args:
        calibrator: Fitted on the validation images.
        label_names: The ``C`` unique names.
        labels: Of the test: 0, 1 or -1 for a missing label, ``[n, C]``.
        logits: Of the test ``[n, C]``.

    Returns:
        ``method``, ``temperature``, ``label_temperatures`` by name, and ``metrics``: by method
        those of :func:`label_probability_metrics`.
    """
    temperatures = map(float, calibrator.label_temperatures)
    return {
        "method": calibrator.method,
        "temperature": calibrator.temperature,
        "label_temperatures": dict(zip(label_names, temperatures, strict=True)),
        "metrics": {
            method: label_probability_metrics(
                labels, replace(calibrator, method=method).calibrate(logits)
            )
            for method in LABEL_METHODS
        },
    }


def label_probability_metrics(labels: Labels, logits: Logits) -> dict[str, float]:
    """Compute the metrics of ``sigmoid(logits)`` as probabilities, over all labels present.

    Args:
        labels: 0, 1 or -1 for a missing label, ``[n, C]``.
        logits: ``[n, C]``.

    Returns:
        ``log_loss``, the mean binary cross entropy, and ``brier``, the mean of ``(p - y)^2``.

    Raises:
        ValueError: If there is no example or no label, or a label is not 0, 1 or -1.
    """
    check_labels(labels, logits)
    present = labels != -1
    if not present.any():
        raise ValueError("All labels are missing; expected at least one that is known.")
    truth, known = labels[present], logits[present].astype(np.float64)
    against = np.where(truth == 1, -known, known)
    return {
        "log_loss": float(np.logaddexp(0, against).mean()),
        "brier": float(((sigmoid(known) - truth) ** 2).mean()),
    }


def read_label_calibrator(run_dir: str | Path, label_names: Sequence[str]) -> LabelCalibrator:
    """Read the calibrator of a run; that of a run without ``calibration.json`` changes nothing.

    Args:
        run_dir: The folder of a run.
        label_names: The names of its labels.

    Raises:
        UserError: If the file is broken, or has other labels.
    """
    path = Path(run_dir) / FILE_NAME
    if not path.exists():
        return LabelCalibrator.identity(len(label_names))
    found: Mapping[str, Any] = parse(path, read_text(path))
    require(path, found, _KEYS)
    known = ", ".join(LABEL_METHODS)
    check(path, found["method"] in LABEL_METHODS, f"its method is not one of {known}")
    values = found["label_temperatures"]
    fits = isinstance(values, dict) and sorted(values) == sorted(label_names)
    check(path, fits, f"it does not hold a temperature for each of the {len(label_names)} labels")
    bounds = " to ".join(f"{bound:g}" for bound in TEMPERATURE_BOUNDS)
    are_valid = all(
        is_number(value, *TEMPERATURE_BOUNDS) for value in [found["temperature"], *values.values()]
    )
    check(path, are_valid, f"a temperature is not a number from {bounds}")
    temperatures = np.array([values[name] for name in label_names], np.float64)
    return LabelCalibrator(found["method"], float(found["temperature"]), temperatures)
