"""Contents of ``test.json`` of a segmentation test, and refused arguments."""

import json

import numpy as np
import pytest

from lmf_jax.evaluation.segmentation.metrics import CASE_METRICS
from lmf_jax.evaluation.segmentation.summary import bootstrap_means, summarize_test

NAMES = ["background", "kidney", "tumour"]
IDS = np.array(["a", "b"])
# Truth and prediction of 20 voxels: case b has no tumor and none is predicted.
COUNTS = np.array([[[10, 2, 0], [4, 0, 2], [4, 0, 0]], [[12, 0, 4], [4, 4, 0], [0, 0, 0]]])
HD95 = np.array([[1.0, 2.0, 3.0], [4.0, 8.0, 0.0]])


def many(n=60, seed=0):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 50, (n, 2, 3))
    return np.array([f"case {i}" for i in range(n)]), counts, rng.random((n, 2))


def test_means_are_over_cases_and_then_over_the_foreground():
    summary = summarize_test(IDS, COUNTS, HD95, NAMES, hd95_unit="pixels")
    kidney, tumour = summary["per_class"]["kidney"], summary["per_class"]["tumour"]
    assert kidney == pytest.approx(
        {
            "dsc": (8 / 10 + 8 / 12) / 2,
            "iou": (4 / 6 + 4 / 8) / 2,
            "precision": (1 + 1 / 2) / 2,
            "recall": (4 / 6 + 1) / 2,
            "hd95": 5,
            "support": 2,
        }
    )
    assert tumour == {"dsc": 1, "iou": 1, "precision": 1, "recall": 1, "hd95": 1.5, "support": 1}
    assert list(summary["per_class"]) == NAMES
    for name in CASE_METRICS:
        assert summary[name] == pytest.approx((kidney[name] + tumour[name]) / 2)
    assert summary["hd95_unit"] == "pixels"
    assert summary["per_case"]["b"] == pytest.approx(
        {"dsc": (8 / 12 + 1) / 2, "iou": 0.75, "precision": 0.75, "recall": 1, "hd95": 4}
    )


def test_support_counts_the_cases_with_the_class_in_their_truth():
    missed, made_up, found = [0, 0, 5], [0, 5, 0], [3, 1, 1]
    counts = np.array([[found, missed], [found, found], [found, missed], [found, made_up]])
    summary = summarize_test(many(4)[0], counts, np.ones((4, 2)), ["background", "lesion"])
    assert [metrics["support"] for metrics in summary["per_class"].values()] == [4, 3]


def test_summary_is_json_and_deterministic():
    summary = summarize_test(*many(), ["background", "lesion"])
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summarize_test(*many(), ["background", "lesion"]) == summary
    intervals = summary["intervals"]
    said = [intervals[key] for key in ("level", "resamples", "seed", "drawn")]
    assert said == [0.95, 2000, 0, "cases"]


def test_intervals_are_those_of_the_bootstrap_over_cases():
    ids, counts, hd95 = many()
    intervals = summarize_test(ids, counts, hd95, ["background", "lesion"])["intervals"]
    rng = np.random.default_rng(1)
    means = hd95[rng.integers(0, 60, (20_000, 60)), 1].mean(axis=1)
    assert intervals["hd95"] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.01)
    assert intervals["per_class"]["lesion"]["hd95"] == intervals["hd95"]
    assert intervals["per_class"]["background"]["hd95"] != intervals["hd95"]


def test_the_mean_over_classes_is_drawn_with_all_classes_of_a_case():
    hd95 = np.random.default_rng(0).random((50, 1))
    opposite = np.concatenate([hd95, hd95, 1 - hd95], axis=1)
    counts = np.ones((50, 3, 3), int)
    intervals = summarize_test(many(50)[0], counts, opposite, NAMES)["intervals"]
    assert intervals["hd95"] == pytest.approx([0.5, 0.5], abs=1e-6)


def test_groups_are_drawn_with_all_their_cases():
    ids, counts, _ = many()
    hd95 = np.repeat(np.random.default_rng(2).random((15, 2)), 4, axis=0)
    groups = np.repeat([f"patient {i}" for i in range(15)], 4)
    names = ["background", "lesion"]
    alone = summarize_test(ids, counts, hd95, names)["intervals"]
    together = summarize_test(ids, counts, hd95, names, groups)["intervals"]
    assert together["drawn"] == "groups"
    widths = [np.ptp(intervals["hd95"]) for intervals in (alone, together)]
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.2)


def test_a_mean_of_resamples_lies_in_the_range_of_its_values():
    values = np.full((7, 2), [1.0, 0.1])
    means = bootstrap_means(values, num_resamples=20)
    assert np.unique(means, axis=0).tolist() == [[1.0, 0.1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": IDS[:0], "counts": COUNTS[:0], "hd95": HD95[:0]}, "no cases"),
        ({"ids": np.array(["a", "a"])}, "The case id a is repeated"),
        ({"hd95": HD95 * np.nan}, "not finite"),
        ({"class_names": NAMES[:2]}, "2 class names for 3 classes"),
        (
            {"counts": COUNTS[:, :1], "hd95": HD95[:, :1], "class_names": NAMES[:1]},
            "only the background",
        ),
    ],
)
def test_inconsistent_arguments_are_refused(change, message):
    arguments = {"ids": IDS, "counts": COUNTS, "hd95": HD95, "class_names": NAMES} | change
    with pytest.raises(ValueError, match=message):
        summarize_test(**arguments)
