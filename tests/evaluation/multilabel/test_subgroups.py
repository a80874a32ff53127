"""Subgroups of a multi-label test: missing labels count nowhere, and thresholds decide."""

import numpy as np
import pytest

from lmf_jax.evaluation.multilabel.scores import score_labels
from lmf_jax.evaluation.multilabel.subgroups import summarize_test_subgroups

LABELS = np.array([[1, 0], [0, 1], [1, -1], [0, 0], [1, 1], [0, -1], [1, 0], [0, 1]])
LOGITS = np.array(
    [[2.0, -1], [-1, 0.5], [1, 3], [2, -2], [0.4, 1], [-2, -1], [3, 1], [-1, -0.5]], np.float32
)
SEX = np.array(["f", "f", "f", "f", "m", "m", "m", ""])


def subgroups(**changes) -> dict[str, dict]:
    thresholds = changes.pop("thresholds", np.array([0.5, 0.5]))
    content = summarize_test_subgroups(LABELS, LOGITS, thresholds, {"sex": SEX}, **changes)
    assert content["columns"]["sex"]["unknown"] == 1
    return {row["value"]: row for row in content["columns"]["sex"]["subgroups"]}


def test_the_difference_is_in_the_fraction_of_correct_labels_that_are_known() -> None:
    found = subgroups()
    female, male = np.mean([1, 1, 1, 1 / 2]), np.mean([1, 1, 1 / 2])
    assert found["f"]["difference"] == pytest.approx(female - male)
    found = subgroups(thresholds=np.array([0.99, 0.5]))  # no first label is predicted
    female, male = np.mean([1 / 2, 1, 0, 1]), np.mean([1 / 2, 1, 0])
    assert found["m"]["difference"] == pytest.approx(male - female)


def test_the_metrics_are_those_of_the_images_of_the_subgroup() -> None:
    row = subgroups()["f"]
    scores = score_labels(LABELS[:4], LOGITS[:4])
    assert row["mean_auroc"] == pytest.approx(scores.mean_auroc)
    assert row["mean_average_precision"] == pytest.approx(scores.mean_average_precision)
    low, high = row["intervals"]["mean_auroc"]
    assert 0 <= low <= row["mean_auroc"] <= high <= 1


def test_a_subgroup_without_a_defined_label_has_no_metric() -> None:
    labels = np.array([[1, 1]] * 3 + [[0, 0], [1, 0], [0, 1]])
    logits = np.linspace(-1, 1, 12, dtype=np.float32).reshape(6, 2)
    sex, half = np.array(["f"] * 3 + ["m"] * 3), np.array([0.5, 0.5])
    content = summarize_test_subgroups(labels, logits, half, {"sex": sex})
    female = content["columns"]["sex"]["subgroups"][0]
    assert female["mean_auroc"] is None and female["intervals"]["mean_auroc"] is None
    assert summarize_test_subgroups(labels, logits, half, {}) is None
