"""Calibrated probabilities of a classifier from its logits."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from lmf_jax.evaluation.classification.scores import softmax

Method = Literal["none", "temperature", "vector"]
METHODS: tuple[Method, ...] = ("none", "temperature", "vector")


@dataclass(frozen=True, eq=False)
class Calibrator:
    """A method of calibration with the parameters of every method.

    Attributes:
        method: The method that is used: "none" leaves the logits as they are, "temperature" divides
            them by ``temperature``, "vector" computes ``weights * logits + bias``.
        temperature: Positive.
        weights: Factor of the logit of each class ``[C]``.
        bias: Summand of the logit of each class ``[C]``.
    """

    method: Method
    temperature: float
    weights: Float[np.ndarray, " classes"]
    bias: Float[np.ndarray, " classes"]

    @classmethod
    def identity(cls, num_classes: int) -> "Calibrator":
        """Return the calibrator that changes nothing, as for a run without calibration."""
        return cls("none", 1.0, np.ones(num_classes), np.zeros(num_classes))

    def calibrate(self, logits: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, "n classes"]:
        """Return logits whose softmax is calibrated, in float64.

        "temperature" changes neither the predicted class of an example nor the order of the others.

        Args:
            logits: Output of the model ``[n, C]``.
        """
        exact = logits.astype(np.float64)
        if self.method == "temperature":
            return exact / self.temperature
        if self.method == "vector":
            return self.weights * exact + self.bias
        return exact

    def used_parameters(self) -> dict[str, Any]:
        """Return the method and the parameters that it uses, to recognize a changed calibrator."""
        if self.method == "temperature":
            return {"method": self.method, "temperature": float(self.temperature)}
        if self.method == "vector":
            weights, bias = self.weights.tolist(), self.bias.tolist()
            return {"method": self.method, "weights": weights, "bias": bias}
        return {"method": self.method}

    def probabilities(
        self, logits: Float[np.ndarray, "n classes"]
    ) -> Float[np.ndarray, "n classes"]:
        """Return the calibrated class probabilities in float64.

        Args:
            logits: Output of the model ``[n, C]``.
        """
        return softmax(self.calibrate(logits))
