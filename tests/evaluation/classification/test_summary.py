"""Contents of ``test.json`` of a classification test, and refused arguments."""

import json

import numpy as np
import pytest

from lmf_jax.evaluation.calibration_error import debiased_calibration_error
from lmf_jax.evaluation.classification.run import TEST_METRICS
from lmf_jax.evaluation.classification.scores import calibration, score
from lmf_jax.evaluation.classification.summary import (
    summarize_test,
)
from lmf_jax.evaluation.statistics import score_intervals

LABELS = np.array([0, 0, 1, 2])
PROBABILITIES = [
    [0.70, 0.10, 0.10, 0.10],
    [0.30, 0.50, 0.15, 0.05],
    [0.10, 0.70, 0.05, 0.15],
    [0.20, 0.61, 0.12, 0.07],
]
NAMES = ["nevus", "melanoma", "scar", "absent"]


def test_summary_has_the_form_of_test_json():
    ece = debiased_calibration_error(calibration(LABELS, np.array(PROBABILITIES)))
    assert ece.observed == pytest.approx((abs(2 - 2 * 0.7) + 0.5 + 0.61) / 4)
    summary = json.loads(json.dumps(summarize_test(LABELS, np.log(PROBABILITIES), NAMES)))
    intervals = summary.pop("intervals")
    assert summary == {
        "accuracy": 0.5,
        "balanced_accuracy": pytest.approx(1.5 / 3),
        "mcc": pytest.approx((2 * 4 - 5) / np.sqrt((16 - 10) * (16 - 6))),
        "macro_precision": pytest.approx((1 + 1 / 3) / 4),
        "macro_recall": pytest.approx(1.5 / 4),
        "macro_f1": pytest.approx((2 / 3 + 1 / 2) / 4),
        "auroc": pytest.approx((1 + 1 + 2 / 3) / 3),
        "average_precision": pytest.approx((1 + 1 + 1 / 2) / 3),
        "ece": pytest.approx(ece.value),
        "per_class": {
            "nevus": class_metrics(1, 0.5, 2 / 3, 1, 1, 2),
            "melanoma": class_metrics(1 / 3, 1, 0.5, 1, 1, 1),
            "scar": class_metrics(0, 0, 0, 2 / 3, 0.5, 1),
            "absent": class_metrics(0, 0, 0, None, None, 0),
        },
    }
    fixed = ("method", "level", "resamples", "seed", "drawn", "units")
    assert {name: intervals.pop(name) for name in fixed} == {
        "method": "posterior",
        "level": 0.95,
        "resamples": 2000,
        "seed": 0,
        "drawn": "images",
        "units": {"nevus": 2, "melanoma": 1, "scar": 1, "absent": 0},
    }
    per_class = intervals.pop("per_class")
    assert list(intervals) == [name for name in summary if name != "per_class"]
    assert intervals["accuracy"][0] < 0.25 and intervals["accuracy"][1] > 0.75
    low, high = per_class["melanoma"]["recall"]
    assert low < 0.3 and high == 1, "one right answer of one is little evidence"
    metrics = ["precision", "recall", "f1", "auroc", "average_precision"]
    assert per_class["absent"] == dict.fromkeys(metrics)
    assert list(per_class) == NAMES and list(per_class["scar"]) == metrics


def class_metrics(precision, recall, f1, auroc, average_precision, support):
    return {
        "precision": pytest.approx(precision),
        "recall": recall,
        "f1": pytest.approx(f1),
        "auroc": auroc and pytest.approx(auroc),
        "average_precision": average_precision,
        "support": support,
    }


def test_each_metric_and_interval_has_its_name():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    logits = rng.normal(size=(60, 3)) + np.eye(3)[labels]
    summary = summarize_test(labels, logits, ["a", "b", "c"])
    ends, ece = score_intervals(labels, logits)
    scores = score(labels, logits)._replace(ece=ece)
    for name in TEST_METRICS:
        for found, expected in ((summary, scores), (summary["intervals"], ends)):
            assert found[name] == pytest.approx(metric_of(expected, name), rel=1e-6), name
    for class_id, name in enumerate("abc"):
        for metric in ("precision", "recall", "f1", "auroc", "average_precision"):
            for found, expected in ((summary, scores), (summary["intervals"], ends)):
                owner = (
                    expected.classification
                    if metric in ("precision", "recall", "f1")
                    else expected.ranking
                )
                value = getattr(owner, metric)[..., class_id]
                assert found["per_class"][name][metric] == pytest.approx(value, rel=1e-6)


def metric_of(scores, name):
    if name == "ece":
        return scores.ece
    if name in ("auroc", "average_precision"):
        return getattr(scores.ranking, f"macro_{name}")
    return getattr(scores.classification, name)


def test_summary_keeps_the_digits_of_a_python_float():
    labels = np.array([0, 0, 0])
    summary = summarize_test(labels, np.eye(2)[[0, 1, 1]], ["a", "b"])
    assert summary["accuracy"] == 1 / 3


def test_one_class_alone_has_no_ranking():
    summary = summarize_test(np.zeros(3, int), np.eye(2)[[0, 1, 1]], ["a", "b"])
    for name in ("auroc", "average_precision"):
        assert summary[name] is None and summary["intervals"][name] is None
        assert summary["per_class"]["a"][name] is None
    low, high = summary["intervals"]["per_class"]["a"]["recall"]
    assert 0 < low < 0.1 and 0.7 < high < 1  # One of three is correct.


def test_nan_logits_are_refused():
    logits = np.full((4, 3), np.nan)
    with pytest.raises(ValueError, match="4 of 4 examples contain NaN"):
        summarize_test(np.zeros(4, int), logits, ["a", "b", "c"])


@pytest.mark.parametrize(
    ("labels", "class_names", "message"),
    [
        ([0, 1], ["a", "b", "c"], "3 class names for 2 classes"),
        ([0, 1], ["a", "a"], "repeat a"),
        ([0, 2], ["a", "b"], "from 0 to 2; expected class ids from 0 to 1"),
        ([-1, 1], ["a", "b"], "from -1 to 1"),
        ([], ["a", "b"], "no examples"),
    ],
)
def test_summary_refuses_inconsistent_arguments(labels, class_names, message):
    with pytest.raises(ValueError, match=message):
        summarize_test(np.array(labels, int), np.zeros((len(labels), 2)), class_names)
