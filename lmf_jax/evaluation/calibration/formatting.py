"""Sentences about the calibration of a run for the terminal and the report."""

import textwrap
from collections.abc import Mapping
from typing import Any

from lmf_jax.evaluation.calibration.calibrator import Calibrator
from lmf_jax.evaluation.calibration.file import calibrator_of
from lmf_jax.evaluation.formatting import format_fraction, format_interval


def format_loss(value: float) -> str:
    """Format a log loss or a temperature: 0.1234 as ``0.123``, 123456.7 as ``1.23e+05``."""
    return f"{value:.3f}" if value < 1000 else f"{value:.3g}"


def describe_calibrator(calibrator: Calibrator) -> str:
    """Name the method of a calibrator with its temperature."""
    if calibrator.method == "temperature":
        return f"temperature {format_loss(calibrator.temperature)}"
    return {"none": "none", "vector": "vector scaling"}[calibrator.method]


def calibration_lines(calibration: Mapping[str, Any]) -> list[str]:
    """Describe the test before and after calibration in at most two lines of 80 columns.

    Args:
        calibration: The contents of ``calibration.json``.
    """
    calibrator = calibrator_of(calibration)
    before = calibration["metrics"]["none"]
    after = calibration["metrics"][calibrator.method]
    scores = f"Brier score {format_fraction(before['brier'])}", format_loss(before["log_loss"])
    if calibrator.method == "none":
        return [f"probabilities are not calibrated: {scores[0]}, log loss {scores[1]}"]
    sentence = (
        f"calibrated ({describe_calibrator(calibrator)}): ECE {format_fraction(after['ece'])} "
        f"{format_interval(after['ece_interval'])}, {scores[0]} to "
        f"{format_fraction(after['brier'])}, log loss {scores[1]} to "
        f"{format_loss(after['log_loss'])}"
    )
    return textwrap.wrap(sentence, 80)
