"""Comparison of classification runs: refused runs, results and layout."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from scipy import stats

from lmf_jax.errors import UserError
from lmf_jax.evaluation.classification.comparison import compare_runs, format_comparison
from lmf_jax.evaluation.classification.run import read_run
from lmf_jax.evaluation.statistics import compare_macro_f1, holm, mcnemar


@pytest.fixture(scope="module")
def comparison(several_runs):
    return compare_runs(list(several_runs.values()))


def change_json(path, change):
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def predictions_of(*run_dirs):
    return np.stack([read_run(run_dir).logits.argmax(axis=1) for run_dir in run_dirs])


def test_runs_that_differ_only_in_the_seed_form_a_group(several_runs, comparison):
    assert [group.name for group in comparison.run_groups] == ["lmf", "ce", "focal"]
    assert [group.seeds for group in comparison.run_groups] == [(0, 1, 2), (1, 2, 3), (0,)]
    assert comparison.run_groups[1].run_dirs == tuple(
        several_runs[f"ce-{seed}"] for seed in (1, 2, 3)
    )
    assert (comparison.dataset, comparison.num_images) == ("made-up", 1432)


def test_a_single_run_keeps_its_metrics_and_intervals(several_runs, comparison):
    test = read_run(several_runs["focal-0"]).test
    for name, metric in comparison.run_groups[2].metrics.items():
        assert [metric.value, metric.low, metric.high] == [test[name], *test["intervals"][name]]


def test_several_seeds_get_their_mean_and_t_interval(several_runs, comparison):
    values = [read_run(several_runs[f"lmf-{seed}"]).test["mcc"] for seed in (0, 1, 2)]
    found = comparison.run_groups[0].metrics["mcc"]
    ends = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert found.value == pytest.approx(np.mean(values))
    assert (found.low, found.high) == pytest.approx(ends)


def test_pairs_are_compared_on_shared_seeds(several_runs, comparison):
    pair = comparison.pairs[0]
    assert (pair.first, pair.second, pair.seeds) == (0, 1, (1, 2))
    lmf = predictions_of(several_runs["lmf-1"], several_runs["lmf-2"])
    ce = predictions_of(several_runs["ce-1"], several_runs["ce-2"])
    order = np.argsort(read_run(several_runs["ce-1"]).ids, kind="stable")
    labels = read_run(several_runs["ce-1"]).labels[order]
    expected = compare_macro_f1(labels, lmf[:, order], ce[:, order], num_classes=10)
    assert pair.macro_f1 == pytest.approx(expected)
    assert pair.mcnemar is None
    tests = [
        [read_run(several_runs[f"{loss}-{seed}"]).test["macro_f1"] for seed in (1, 2)]
        for loss in ("lmf", "ce")
    ]
    interval = stats.ttest_rel(*tests).confidence_interval(0.95)
    assert (pair.over_seeds.low, pair.over_seeds.high) == pytest.approx(tuple(interval))


def test_one_run_against_one_gets_mcnemar(several_runs, comparison):
    assert comparison.pairs[1].mcnemar is None, "several seeds against one"
    (pair,) = compare_runs([several_runs["lmf-0"], several_runs["focal-0"]]).pairs
    assert pair.seeds == (0,) and pair.over_seeds is None
    labels = read_run(several_runs["lmf-0"]).labels
    correct = predictions_of(several_runs["lmf-0"], several_runs["focal-0"]) == labels
    assert pair.mcnemar == mcnemar(*correct)


def test_a_difference_that_other_seeds_may_reverse_does_not_count(comparison):
    pair = comparison.pairs[0]
    moved = [
        dataclasses.replace(pair, over_seeds=pair.over_seeds._replace(low=low, high=0.2))
        for low in (0.1, -0.1)
    ]
    said = [
        format_comparison(dataclasses.replace(comparison, pairs=(one,), holm_p=(0.001,)))
        for one in moved
    ]
    rows = [next(line for line in text.split("\n") if "1 vs 2" in line) for text in said]
    assert " yes " in rows[0] and " no " in rows[1]


def test_known_lesions_are_the_resampled_units(several_runs, tmp_path):
    runs = [shutil.copytree(several_runs[name], tmp_path / name) for name in ("lmf-0", "ce-1")]
    with np.load(runs[0] / "predictions.npz") as file:
        arrays = dict(file)
    lesions = np.array([f"lesion {number // 2}" for number in range(len(arrays["ids"]))])
    np.savez(runs[0] / "predictions.npz", **arrays, groups=lesions)
    found = compare_runs(runs)
    assert found.drawn == "groups" and "Lesions or patients, with all" in format_comparison(found)
    plain = compare_runs([several_runs["lmf-0"], several_runs["ce-1"]])
    assert plain.drawn == "images" and "as independent" in format_comparison(plain)
    assert found.pairs[0].macro_f1.low != plain.pairs[0].macro_f1.low
    correct = predictions_of(*runs) == arrays["labels"]
    assert found.pairs[0].mcnemar == mcnemar(*correct, lesions) != plain.pairs[0].mcnemar


def test_groups_without_a_shared_seed_are_compared_with_all_runs(several_runs, comparison):
    pair = comparison.pairs[2]
    assert pair.seeds == () and pair.mcnemar is None and pair.over_seeds is None
    means = [
        np.mean([read_run(several_runs[f"ce-{seed}"]).test["macro_f1"] for seed in (1, 2, 3)]),
        read_run(several_runs["focal-0"]).test["macro_f1"],
    ]
    assert pair.macro_f1.difference == pytest.approx(means[0] - means[1])


def test_p_values_are_corrected_for_all_pairs(comparison):
    p_values = [pair.macro_f1.p_value for pair in comparison.pairs]
    assert max(p_values) < 0.001
    assert comparison.holm_p == pytest.approx(holm(p_values))
    assert min(comparison.holm_p) >= 3 * min(p_values)


def test_more_than_four_groups_are_compared_with_the_first(tmp_path, write_run):
    runs = [write_run(tmp_path / f"{n}", {"alpha": n / 2}, noise_seed=0) for n in range(5)]
    comparison = compare_runs(runs)
    assert [group.name for group in comparison.run_groups[1:3]] == ["alpha 0.5", "alpha 1"]
    assert [(pair.first, pair.second) for pair in comparison.pairs] == [(0, n) for n in range(1, 5)]
    assert len(compare_runs(runs[:4]).pairs) == 6


@pytest.fixture
def two_runs(tmp_path, write_run):
    return [write_run(tmp_path / name, {"loss": "ce"}, noise_seed=0) for name in ("a", "b")]


def test_the_order_of_the_images_does_not_matter(two_runs):
    path = two_runs[1] / "predictions.npz"
    with np.load(path) as arrays:
        np.savez(path, **{name: array[::-1] for name, array in arrays.items()})
    (pair,) = compare_runs(two_runs).pairs
    assert pair.macro_f1.difference == 0 and pair.macro_f1.p_value == 1
    assert (pair.mcnemar.only_first, pair.mcnemar.only_second, pair.mcnemar.p_value) == (0, 0, 1)


def test_a_repeated_seed_starts_another_group(two_runs):
    assert [group.name for group in compare_runs(two_runs).run_groups] == ["a", "b"]


def test_run_only_settings_do_not_separate_groups(two_runs):
    change = {"seed": 4, "data_dir": "elsewhere", "resume": True, "num_processes": 2}
    change_json(two_runs[1] / "config.json", lambda record: record["config"].update(change))
    (group,) = compare_runs(two_runs).run_groups
    assert group.seeds == (3, 4)
    assert "vs" not in format_comparison(compare_runs(two_runs))


def test_an_undefined_metric_is_shown_as_not_available(two_runs):
    for run_dir in two_runs:
        change_json(run_dir / "test.json", lambda test: test.update(auroc=None))
    comparison = compare_runs(two_runs)
    assert comparison.run_groups[0].metrics["auroc"] is None
    rows = [line for line in format_comparison(comparison).split("\n") if line.startswith("1  a ")]
    assert len(rows) == 1 and rows[0].endswith("  n/a")


def test_runs_of_other_data_or_images_are_refused_by_name(two_runs):
    with pytest.raises(UserError, match=r"at least two runs"):
        compare_runs(two_runs[:1])
    with pytest.raises(UserError, match=r"a/\.\./a is given twice"):
        compare_runs([two_runs[0], f"{two_runs[0]}/../a"])
    path = two_runs[1] / "predictions.npz"
    with np.load(path) as arrays:
        changed = dict(arrays) | {"ids": np.char.add(arrays["ids"], "x")}
    np.savez(path, **changed)
    with pytest.raises(UserError, match=r"runs in .*/a and .*/b were tested on different images"):
        compare_runs(two_runs)
    path = two_runs[1] / "config.json"
    change_json(path, lambda record: record["dataset"].update(fingerprint="sha256:other"))
    with pytest.raises(UserError, match=r"runs in .*/a and .*/b used different images, labels or"):
        compare_runs(two_runs)


def test_layout_fits_100_columns_and_explains_intervals(comparison):
    text = format_comparison(comparison)
    lines = text.split("\n")
    assert max(map(len, lines)) <= 100
    header = next(number for number, line in enumerate(lines) if "balanced acc." in line)
    first, second = lines[header + 2 : header + 4]
    macro_f1 = comparison.run_groups[0].metrics["macro_f1"]
    assert first.split()[:3] == ["1", "lmf", f"{macro_f1.value:.3f}"]
    assert second.startswith(f"   seeds 0, 1, 2  [{macro_f1.low:.3f}, {macro_f1.high:.3f}]")
    assert first.index(f"{macro_f1.value:.3f}") == lines[header].index("macro F1")
    pair = comparison.pairs[1]
    row = next(line for line in lines if line.strip().startswith("1 vs 3"))
    assert f"{pair.macro_f1.difference:+.3f}" in row and "      yes" in row
    words = " ".join(text.split())
    assert "of one run: 95 % interval for the choice of test images, not of seeds." in words
    assert "of several seeds: 95 % t-interval of their mean, on these test images." in words
    assert "corrected for 3 pairs" in words


def test_long_names_are_shortened_only_in_the_table(tmp_path, write_run):
    config = {"loss": "class-balanced", "effective_number_beta": 0.99999, "learning_rate": 0.00123}
    runs = [
        write_run(tmp_path / "a", config, noise_seed=0),
        write_run(tmp_path / "b", noise_seed=0),
    ]
    text = format_comparison(compare_runs(runs))
    assert max(map(len, text.split("\n"))) <= 100
    assert "class-balanced, effective number beta 0.99999, learning rate 0.00123, seed 3" in text
    assert "1  class-balanc" in text and "…" in text
