"""The table of ``ablate``: changes, intervals, and degenerate tests."""

import numpy as np
import pytest

from lmf_jax.evaluation.classification.ablation import format_ablation, summarize_ablation
from lmf_jax.evaluation.classification.summary import summarize_test
from lmf_jax.evaluation.statistics import auroc_difference

LABELS = np.arange(60) % 3
NAMES = ("a", "b", "c")


def scores(strength: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(len(LABELS), 3))
    return (noise + strength * np.eye(3)[LABELS]).astype(np.float32)


def test_a_change_is_that_of_the_metrics_with_an_interval_around_it():
    with_all, without = scores(3.0), scores(0.5)
    ablation = summarize_ablation(LABELS, with_all, {"without age": without}, NAMES)
    first, second = (summarize_test(LABELS, x, NAMES) for x in (with_all, without))
    for metric, change in ablation.changes["without age"].items():
        difference, low, high = change
        assert difference == pytest.approx(second[metric] - first[metric], abs=1e-6)
        assert low <= difference <= high < 0
    lines = format_ablation(ablation).splitlines()
    assert lines[2].split()[:3] == ["all", "columns", f"{first['macro_f1']:.3f}"]
    assert f"{second['auroc'] - first['auroc']:+.3f}" in lines[3]


def test_equal_predictions_change_nothing():
    ablation = summarize_ablation(LABELS, scores(1.0), {"without age": scores(1.0)}, NAMES)
    for difference, low, high in ablation.changes["without age"].values():
        assert difference == 0 and low <= 0 <= high
    assert ablation.changes["without age"]["auroc"] == (0, 0, 0)


def test_images_of_one_patient_widen_the_intervals():
    repeated = np.repeat(np.arange(15), 4)
    labels, pair = LABELS[repeated], (scores(1.0)[repeated], scores(0.2, seed=1)[repeated])
    groups = np.array([f"p{number}" for number in repeated])
    _, *alone = auroc_difference(labels, *pair)
    _, *grouped = auroc_difference(labels, *pair, groups=groups)
    assert grouped[1] - grouped[0] > 1.4 * (alone[1] - alone[0])


def test_one_class_and_long_names_fit_the_table():
    labels, name = np.zeros(5, int), "without " + "age at the first examination " * 3
    logits = scores(1.0)[:5]
    ablation = summarize_ablation(labels, logits, {name: logits}, NAMES)
    text = format_ablation(ablation)
    assert max(map(len, text.splitlines())) <= 100
    assert "n/a" in text and "without age at the first ex…" in text
    assert "All test images are of one class" in text
