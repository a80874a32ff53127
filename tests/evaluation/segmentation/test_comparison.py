"""Comparison of segmentation runs: refused runs, results and layout."""

import dataclasses
import json
import runpy
import sys

import numpy as np
import pytest
from scipy import stats

from lmf_jax.errors import UserError
from lmf_jax.evaluation.segmentation.comparison import (
    compare_runs,
    format_comparison,
    signed_rank_p,
)
from lmf_jax.evaluation.segmentation.metrics import overlap_metrics
from lmf_jax.evaluation.segmentation.run import read_run
from lmf_jax.evaluation.statistics import holm
from lmf_jax.runs.files import common_task
from tests.helpers.segmentation_run import write_run

N = 24
SETTINGS = {"dice-0": 1.0, "dice-1": 1.05, "mixed-focal-0": 0.9, "mixed-focal-1": 0.95, "ce-5": 1.0}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {
        name: write_run(
            folder / name,
            {"loss": name[:-2], "seed": int(name[-1]), "run_dir": name},
            error=error,
            number=N,
            classes=3,
            overlays=False,
        )
        for name, error in SETTINGS.items()
    }


@pytest.fixture(scope="module")
def comparison(runs):
    return compare_runs(list(runs.values()))


@pytest.fixture
def two_runs(tmp_path):
    return [
        write_run(tmp_path / name, {"loss": name}, error=error, number=N, overlays=False)
        for name, error in (("a", 1.0), ("b", 0.7))
    ]


def dsc_of(run_dir):
    """Return the foreground mean of each case."""
    return overlap_metrics(read_run(run_dir).counts)["dsc"][:, 1:].mean(axis=1)


def change_json(path, change):
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def test_runs_that_differ_only_in_the_seed_form_a_group(comparison):
    assert [group.name for group in comparison.run_groups] == ["dice", "mixed-focal", "ce"]
    assert [group.seeds for group in comparison.run_groups] == [(0, 1), (0, 1), (5,)]
    assert (comparison.num_cases, comparison.num_classes, comparison.drawn) == (N, 2, "cases")
    assert comparison.hd95_unit == "pixels"


def test_a_single_run_keeps_its_metrics_and_intervals(runs, comparison):
    test = read_run(runs["ce-5"]).test
    for name in ("dsc", "iou", "precision", "recall", "hd95"):
        metric = comparison.run_groups[2].metrics[name]
        assert [metric.value, metric.low, metric.high] == [test[name], *test["intervals"][name]]


def test_pairs_are_compared_on_shared_seeds(runs, comparison):
    pair = comparison.pairs[0]
    dsc = {name: dsc_of(run_dir) for name, run_dir in runs.items()}
    by_seed = [dsc[f"dice-{seed}"] - dsc[f"mixed-focal-{seed}"] for seed in (0, 1)]
    by_case = np.mean(by_seed, axis=0)
    assert pair.seeds == (0, 1)
    assert pair.dsc.difference == pytest.approx(by_case.mean())
    assert pair.dsc.low < pair.dsc.difference < pair.dsc.high
    assert pair.wilcoxon_p == pytest.approx(stats.wilcoxon(by_case).pvalue)
    means = [difference.mean() for difference in by_seed]
    ends = stats.t.interval(0.95, 1, np.mean(means), stats.sem(means))
    assert (pair.over_seeds.low, pair.over_seeds.high) == pytest.approx(ends)
    tests = [read_run(run_dir).test["hd95"] for run_dir in runs.values()]
    assert pair.hd95.difference == pytest.approx(np.mean(tests[:2]) - np.mean(tests[2:4]))


def test_the_interval_is_that_of_the_paired_difference(runs, comparison):
    by_case = dsc_of(runs["ce-5"]) - np.mean([dsc_of(runs[f"dice-{s}"]) for s in (0, 1)], axis=0)
    pair = next(pair for pair in comparison.pairs if (pair.first, pair.second) == (0, 2))
    rng = np.random.default_rng(0)
    means = -by_case[rng.integers(0, N, (20_000, N))].mean(axis=1)
    found = (pair.dsc.low, pair.dsc.high)
    assert found == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.05 * np.ptp(means))
    spread = np.ptp(read_run(runs["ce-5"]).test["intervals"]["dsc"])
    assert pair.dsc.high - pair.dsc.low < spread / 2


def test_p_values_are_corrected_for_all_pairs(comparison):
    assert len(comparison.pairs) == 3
    pairs = comparison.pairs
    assert list(comparison.holm_p) == holm([pair.dsc.p_value for pair in pairs])
    assert list(comparison.wilcoxon_holm_p) == holm([pair.wilcoxon_p for pair in pairs])


def test_known_patients_are_the_resampled_units(two_runs, tmp_path):
    patients = np.array([f"patient {i // 4}" for i in range(N)])
    for run_dir in two_runs[:1]:
        with np.load(run_dir / "cases.npz") as file:
            arrays = dict(file)
        np.savez(run_dir / "cases.npz", **arrays, groups=patients)
    found = compare_runs(two_runs)
    by_case = dsc_of(two_runs[0]) - dsc_of(two_runs[1])
    assert found.drawn == "groups"
    by_patient = by_case.reshape(-1, 4).mean(axis=1)
    (pair,) = found.pairs
    assert pair.wilcoxon_p == pytest.approx(stats.wilcoxon(by_patient).pvalue)
    assert "Lesions or patients, with all" in format_comparison(found)


def test_the_order_of_the_cases_does_not_matter(two_runs):
    before = compare_runs(two_runs).pairs
    with np.load(two_runs[1] / "cases.npz") as arrays:
        np.savez(two_runs[1] / "cases.npz", **{name: a[::-1] for name, a in arrays.items()})
    change_json(
        two_runs[1] / "test.json",
        lambda test: test.update(per_case=dict(reversed(test["per_case"].items()))),
    )
    assert compare_runs(two_runs).pairs == before


@pytest.mark.parametrize("zeros", [0, 1, 5])
def test_cases_without_a_difference_are_left_out(zeros):
    difference = np.array([0.3, -0.1, 0.2, 0.4, 0.05])
    expected = stats.wilcoxon(difference).pvalue
    assert signed_rank_p(np.append(difference, np.zeros(zeros))) == pytest.approx(expected)
    assert signed_rank_p(np.zeros(zeros + 1)) == 1


def test_rounding_errors_are_not_differences():
    assert signed_rank_p(np.full(20, 0.1 + 0.2 - 0.3)) == 1


def test_a_case_without_a_patient_stands_for_itself():
    difference = np.array([0.3, -0.1, 0.2, 0.4, 0.1])
    groups = np.array(["", "a", "a", "", "b"])
    expected = stats.wilcoxon([0.3, 0.05, 0.4, 0.1]).pvalue
    assert signed_rank_p(difference, groups) == pytest.approx(expected)


def test_runs_of_other_data_or_cases_are_refused_by_name(two_runs):
    with pytest.raises(UserError, match="at least two runs"):
        compare_runs(two_runs[:1])
    change_json(two_runs[1] / "test.json", lambda test: test.update(hd95_unit="mm"))
    with pytest.raises(
        UserError, match=r"hd95 of the run in .*/a is in pixels and that of .*/b in mm"
    ):
        compare_runs(two_runs)
    with np.load(two_runs[1] / "cases.npz") as arrays:
        changed = dict(arrays) | {"ids": np.char.add(arrays["ids"], "x")}
    np.savez(two_runs[1] / "cases.npz", **changed)
    change_json(
        two_runs[1] / "test.json",
        lambda test: test.update(per_case={f"{i}x": m for i, m in test["per_case"].items()}),
    )
    with pytest.raises(UserError, match=r"runs in .*/a and .*/b were tested on different cases"):
        compare_runs(two_runs)
    change_json(
        two_runs[1] / "config.json", lambda record: record["dataset"].update(fingerprint="other")
    )
    with pytest.raises(UserError, match=r"runs in .*/a and .*/b used different images, labels or"):
        compare_runs(two_runs)


def test_runs_of_two_tasks_are_not_compared(two_runs):
    assert common_task(two_runs) == "segmentation"
    change_json(two_runs[1] / "config.json", lambda record: record["config"].pop("task"))
    message = r"/a is segmentation and that of .*/b is classification; compare runs of one"
    with pytest.raises(UserError, match=message):
        common_task(two_runs)


def test_layout_fits_100_columns_and_explains_intervals(comparison):
    text = format_comparison(comparison)
    lines = text.split("\n")
    assert max(map(len, lines)) <= 100
    assert lines[0] == f"made-up: {N} test cases of 2 foreground classes"
    header = next(number for number, line in enumerate(lines) if "hd95 pixels" in line)
    first, second = lines[header + 2 : header + 4]
    dsc, hd95 = (comparison.run_groups[0].metrics[name] for name in ("dsc", "hd95"))
    assert first.split()[:3] == ["1", "dice", f"{dsc.value:.3f}"]
    assert first.endswith(f"  {hd95.value:.1f}")
    assert second.endswith(f"[{hd95.low:.1f}, {hd95.high:.1f}]")
    pair = comparison.pairs[0]
    rows = [line for line in lines if line.strip().startswith("1 vs 2")]
    assert f"{pair.dsc.difference:+.3f}" in rows[0]
    assert f"{pair.hd95.difference:+.1f}" in rows[1]
    words = " ".join(text.split())
    assert "of one run: 95 % interval for the choice of test cases, not of seeds." in words
    assert "of several seeds: 95 % t-interval of their mean, on these test cases." in words
    assert "corrected for 3 pairs" in words


def test_a_difference_that_other_seeds_may_reverse_does_not_count(comparison):
    pair = comparison.pairs[0]
    for low, word in ((0.1, " yes "), (-0.1, " no ")):
        moved = dataclasses.replace(pair, over_seeds=pair.over_seeds._replace(low=low, high=0.2))
        changed = dataclasses.replace(
            comparison, pairs=(moved,), holm_p=(0.001,), wilcoxon_holm_p=(0.001,)
        )
        rows = format_comparison(changed).split("\n")
        assert word in next(line for line in rows if "1 vs 2" in line)


def test_the_command_compares_runs_of_the_task(two_runs, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["lmf_jax", "compare", *map(str, two_runs)])
    runpy.run_module("lmf_jax", run_name="__main__")
    assert f"{N} test cases of 1 foreground class" in capsys.readouterr().out
    change_json(two_runs[0] / "config.json", lambda record: record["config"].pop("task"))
    with pytest.raises(SystemExit, match="2"):
        runpy.run_module("lmf_jax", run_name="__main__")
    assert "compare runs of one task" in capsys.readouterr().err
