"""The check of promises on halves of the images of a run: ``python -m benchmarks.promises``."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import promises
from benchmarks.promises import check_sensitivity, check_sets, halve
from lmf_jax.evaluation.calibration import Calibrator
from lmf_jax.evaluation.conformal.thresholds import fit_sets
from lmf_jax.evaluation.operating.thresholds import choose_threshold
from lmf_jax.evaluation.predictions import Predictions

NAMES = ["common", "usual", "rare"]
CALIBRATOR = replace(Calibrator.identity(3), method="temperature")


def pooled(with_groups=True):
    """Return predictions, with lesions of one to three images that look alike."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 4, 330)
    labels = np.repeat(np.repeat([0, 1, 2], [240, 80, 10]), sizes)
    lesion = np.repeat(np.arange(330), sizes)
    logits = 2 * np.eye(3)[labels] + rng.normal(size=(330, 3))[lesion]
    logits += 0.5 * rng.normal(size=logits.shape)
    return Predictions(
        ids=np.array([f"image {i}" for i in range(len(labels))]),
        labels=labels,
        logits=logits,
        groups=lesion.astype(str) if with_groups else None,
    )


@pytest.fixture(scope="module")
def halvings():
    return list(halve(pooled(), CALIBRATOR, 60))


def test_halves_share_no_lesion_and_have_all_images(halvings):
    every = pooled()
    for halving in halvings[:5]:
        first, second = halving.first, halving.second
        assert not set(first.groups) & set(second.groups)
        assert len(first.labels) + len(second.labels) == len(every.labels)
        assert abs(len(set(first.groups)) - len(set(second.groups))) <= 1
    assert set(halvings[0].first.groups) != set(halvings[1].first.groups)


def test_sets_keep_their_promise_and_rare_classes_are_refused(halvings):
    common, usual, rare = check_sets(halvings, NAMES, 0.9)
    for row in (common, usual):
        assert row["promised"] == 1.0 and row["kept"] == "yes" and row["coverage"] > 0.88
    assert rare["promised"] < 0.1 and rare["units"] < 7 and 0 < rare["refused"] <= 1
    assert [row["kept"] for row in check_sets(halvings, NAMES, 0.99)] == [
        "yes",
        "refused",
        "refused",
    ]


def test_a_promise_that_is_not_kept_is_seen(halvings, monkeypatch):
    def too_high(*args, level, **settings):
        fitted = fit_sets(*args, level=level, **settings)
        lower = fit_sets(*args, level=level - 0.05, **settings)
        return replace(
            fitted,
            classes=tuple(
                replace(threshold, value=other.value)
                for threshold, other in zip(fitted.classes, lower.classes, strict=True)
            ),
        )

    monkeypatch.setattr(promises, "fit_sets", too_high)
    assert [row["kept"] for row in check_sets(halvings, NAMES, 0.9)[:2]] == ["no", "no"]


def test_runs_without_lesions_are_halved_by_image():
    (halving,) = halve(pooled(with_groups=False), CALIBRATOR, 1)
    assert halving.first.groups is None
    assert abs(len(halving.first.labels) - len(halving.second.labels)) <= 1


LOSSES = ("| CE |", "| LMF |")
"""Begin of a row in the tables of the documentation."""


def test_the_table_of_the_documentation_is_the_recorded_one():
    root = Path(__file__).parents[2]
    (path,) = (root / "benchmarks" / "results").glob("promises-cpu-*.json")
    page = (root / "docs" / "prediction_sets.md").read_text()
    found = [line[2:-2].split(" | ") for line in page.splitlines() if line.startswith(LOSSES)]
    rows = [row for row in json.loads(path.read_text())["rows"] if row["level"] != "0.8"]
    assert len(found) == len(rows) == 28
    for (loss, *cells), row in zip(found, rows, strict=True):
        assert row["run"] == f"ham-{loss.lower()}"
        for (name, value), cell in zip([*row.items()][1:], cells, strict=True):
            decimals = 1 if name == "units" else 3
            assert cell == (f"{value:.{decimals}f}" if isinstance(value, float) else value)
    assert {row["kept"] for row in rows} == {"yes"}


def test_operating_points_keep_their_sensitivity_and_rare_classes_have_no_guarantee(halvings):
    common, usual, rare = check_sensitivity(halvings, NAMES, 0.9)
    for row in (common, usual):
        assert row["guaranteed"] > 0.9 and row["kept"] == "yes"
        assert row["inside"] >= 0.9 and row["missed"] <= 0.05 and row["sensitivity"] > 0.9
        assert row["below"] < 2.5 * row["expected"]
    assert rare["guaranteed"] == 0.0 and rare["missed"] == "-" and rare["inside"] >= 0.9


def test_a_sensitivity_that_is_not_kept_is_seen(halvings, monkeypatch):
    def too_high(is_class, probability, target, **settings):
        chosen = choose_threshold(is_class, probability, target, **settings)
        lower = float(np.quantile(probability[is_class], 0.2))
        return chosen._replace(value=lower, guaranteed=True)

    monkeypatch.setattr(promises, "choose_threshold", too_high)
    assert [row["kept"] for row in check_sensitivity(halvings, NAMES, 0.9)[:1]] == ["no"]


def test_the_table_of_the_page_on_operating_points_is_the_recorded_one():
    root = Path(__file__).parents[2]
    (path,) = (root / "benchmarks" / "results").glob("promises-operating-points-*.json")
    page = (root / "docs" / "operating_points.md").read_text()
    found = [line[2:-2].split(" | ") for line in page.splitlines() if line.startswith(LOSSES)]
    rows = [row for row in json.loads(path.read_text())["rows"] if row["target"] != "0.8"]
    assert len(found) == len(rows) == 28
    for (loss, *cells), row in zip(found, rows, strict=True):
        assert row["run"] == f"ham-{loss.lower()}"
        values = [*row.items()][1:]
        for (name, value), cell in zip(values, cells, strict=True):
            decimals = 1 if name in ("images", "units") else 3
            assert cell == (f"{value:.{decimals}f}" if isinstance(value, float) else value)
    assert {row["kept"] for row in rows} == {"yes"}
