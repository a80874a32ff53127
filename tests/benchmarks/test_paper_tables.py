"""The reproduced tables: the contents of a row, and the runs that it accepts."""

import json
import sys

import numpy as np
import pytest
import tyro

from benchmarks import paper_tables, record
from benchmarks.paper import printed
from benchmarks.paper.recipe import DIFFERS
from benchmarks.paper.reproduced import Interval, macro_f1_differences, read_group
from benchmarks.paper.rows import class_rows, difference_rows, percent, result_rows, split_rows
from benchmarks.paper.runs import Recipe
from benchmarks.paper_tables import Options, chosen, compared_lmf, losses_and_weights
from lmf_jax.errors import TrainingStopped, UserError
from lmf_jax.evaluation.statistics import holm
from tests.helpers.paper_runs import write_run

HAM = ("ham10000", "resnet50")


def group_of(folder, loss, weights=None, *, signals, model="resnet50", **made):
    """Write a run for each signal, the seeds from 0, and read them."""
    recipe = Recipe("ham10000", model, (), folder, "data")
    runs = {seed: recipe.run(loss, weights, seed) for seed in range(len(signals))}
    for seed, signal in enumerate(signals):
        write_run(runs[seed], noise_seed=seed, signal=signal, **made)
    return read_group(loss, weights, runs)


@pytest.fixture(scope="module")
def one_seed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    return [group_of(folder, loss, signals=[s]) for loss, s in (("ce", 2.0), ("focal", 2.5))]


@pytest.fixture(scope="module")
def three_seeds(tmp_path_factory):
    """LMF, a loss that says the same of every image, and one that is far worse."""
    folder = tmp_path_factory.mktemp("three")
    return [
        group_of(folder, "lmf", (0.5, 1.0), signals=[2.0, 2.5, 2.2]),
        group_of(folder, "ce", signals=[2.0, 2.5, 2.2]),
        group_of(folder, "balanced-softmax", signals=[0.5, 0.7, 0.5]),
    ]


def test_of_one_seed_the_interval_is_that_of_its_test(one_seed):
    rows = result_rows(*HAM, one_seed)
    for row, group in zip(rows, one_seed, strict=True):
        test = group.runs[0].test
        low, high = test["intervals"]["macro_f1"]
        expected = f"{100 * test['macro_f1']:.2f} [{100 * low:.1f}, {100 * high:.1f}]"
        assert row["macro F1"] == expected
        assert row["seeds"] == "0"
    assert [row["macro F1, printed"] for row in rows] == ["79.95", "79.28"]
    assert [row["recall, printed"] for row in rows] == ["78.43", "82.74"]


def test_of_several_seeds_it_is_students_t(three_seeds):
    values = [run.test["accuracy"] for run in three_seeds[0].runs.values()]
    interval = three_seeds[0].score("accuracy")
    assert interval.value == pytest.approx(np.mean(values))
    reach = 4.302653 * np.std(values, ddof=1) / 3**0.5  # the 97.5 % point of t with 2 degrees
    assert interval.high - interval.value == pytest.approx(reach)
    assert result_rows(*HAM, three_seeds)[0]["seeds"] == "0 1 2"


def test_a_loss_that_is_not_in_the_paper_has_no_printed_figure(three_seeds):
    row = result_rows(*HAM, three_seeds)[2]
    assert row["loss"] == "balanced-softmax"
    assert row["macro F1, printed"] == ""
    row = difference_rows(*HAM, three_seeds[:1], three_seeds[1:])[1]
    assert row["printed"] == row["printed is possible"] == ""


def test_equal_predictions_differ_by_nothing_and_poor_ones_by_much(three_seeds):
    lmf, *others = three_seeds
    (_, _, same), (_, _, poor) = macro_f1_differences([lmf], others)
    assert same.seeds == Interval(0, 0, 0)
    assert same.images.value == 0
    assert same.contains(0)
    assert same.p == 1
    expected = lmf.score("macro_f1").value - others[1].score("macro_f1").value
    assert poor.images.value == pytest.approx(expected)
    assert poor.images.value > 0.2
    assert not poor.contains(0)
    assert poor.p < 0.01
    rows = difference_rows(*HAM, [lmf], others)
    assert [row["0 is possible"] for row in rows] == ["yes", "no"]
    assert rows[0]["losses"] == "LMF 0.5,1 - CCE"
    assert rows[0]["printed"] == "+2.48"  # 82.43 - 79.95
    assert rows[0]["printed is possible"] == "no"


def test_validation_chooses_the_weights_of_lmf(tmp_path):
    better = group_of(tmp_path, "lmf", (1.0, 0.5), signals=[0.5], validation=0.8)
    worse = group_of(tmp_path, "lmf", (1.0, 2.0), signals=[3.0], validation=0.7)
    assert better.score("macro_f1").value < worse.score("macro_f1").value
    assert chosen([worse, better]) is better
    assert better.validation_macro_f1 == 0.8


@pytest.fixture(scope="module")
def two_pairs(tmp_path_factory):
    """Cross entropy, the pair of Table 6, and another that validation prefers."""
    folder = tmp_path_factory.mktemp("pairs")
    ce = group_of(folder, "ce", signals=[2.0])
    of_table_6 = group_of(folder, "lmf", (0.5, 1.0), signals=[2.5], validation=0.6)
    other = group_of(folder, "lmf", (1.0, 0.5), signals=[2.2], validation=0.7)
    return [ce, of_table_6, other]


def test_printed_figures_of_lmf_stand_beside_the_pair_that_they_were_printed_for(two_pairs):
    rows = result_rows(*HAM, two_pairs)
    assert [row["macro F1, printed"] for row in rows] == ["79.95", "82.43", ""]
    assert [row["accuracy, printed"] for row in rows][1:] == ["89.35", ""]
    ce, of_table_6, other = two_pairs
    rows = difference_rows(*HAM, [other, of_table_6], [ce])
    assert [row["losses"] for row in rows] == ["LMF 1,0.5 - CCE", "LMF 0.5,1 - CCE"]
    assert [row["printed"] for row in rows] == ["", "+2.48"]
    assert [row["printed is possible"] != "" for row in rows] == [False, True]
    row = class_rows("ham10000", "efficientnet_v2_s", two_pairs)[0]  # Table 6 there: 1, 2
    assert row["CCE, printed"] == "72.34"
    assert row["LMF 0.5,1, printed"] == row["LMF 1,0.5, printed"] == ""


def test_p_values_are_corrected_for_all_rows_of_the_table(two_pairs):
    ce, *lmf = two_pairs
    raw = [macro_f1_differences([group], [ce])[0][2].p for group in lmf]
    corrected = [difference.p for _, _, difference in macro_f1_differences(lmf, [ce])]
    assert corrected == holm(raw)
    assert corrected != raw


def test_the_pair_of_table_6_is_compared_whatever_validation_says(two_pairs):
    _, of_table_6, other = two_pairs
    assert compared_lmf(two_pairs, (0.5, 1.0)) == [other, of_table_6]
    assert compared_lmf(two_pairs[:2], (0.5, 1.0)) == [of_table_6]
    assert compared_lmf(two_pairs, (1.0, 2.0)) == [other]
    assert compared_lmf(two_pairs[:1], (0.5, 1.0)) == []


def test_the_class_table_is_printed_of_efficientnet_alone(one_seed):
    rows = class_rows("ham10000", "efficientnet_v2_s", one_seed)
    assert [row["class"] for row in rows] == list(printed.class_f1()["ham10000"])
    assert rows[0] | {"CCE": "", "Focal": ""} == {
        "class": "AKIEC",
        "train": "229",
        "CCE": "",
        "CCE, printed": "72.34",
        "Focal": "",
        "Focal, printed": "72.00",
    }
    f1 = one_seed[0].runs[0].test["per_class"]["AKIEC"]["f1"]
    assert rows[0]["CCE"].startswith(f"{100 * f1:.2f} [")
    assert list(class_rows(*HAM, one_seed)[0]) == ["class", "train", "CCE", "Focal"]


def test_a_class_without_test_images_has_no_interval():
    assert percent(Interval(0.0, None, None)) == "0.00"


def test_a_run_with_other_settings_is_refused(tmp_path):
    asked = Recipe("ham10000", "resnet50", (), tmp_path, "data").run("ce", None, 0)
    write_run(asked)
    path = asked.folder / "config.json"
    trained = json.loads(path.read_text())
    trained["config"]["loss"] = "focal"
    path.write_text(json.dumps(trained))
    with pytest.raises(UserError, match=r"was trained with loss focal; expected ce"):
        read_group("ce", None, {0: asked})


def test_weights_that_lie_elsewhere_are_the_same_setting(tmp_path):
    recipe = Recipe("ham10000", "resnet50", ("--pretrained", "here/a.npz"), tmp_path, "data")
    run = recipe.run("ce", None, 0)
    write_run(run)
    path = run.folder / "config.json"
    path.write_text(path.read_text().replace(str((tmp_path.cwd() / "here").absolute()), "/there"))
    assert "/there/a.npz" in path.read_text()
    assert read_group("ce", None, {0: run}) is not None


def test_the_rows_are_those_of_the_paper_unless_others_are_named():
    expected = [("ce", None), ("focal", None), ("ldam", None), ("bwcce", None)]
    assert losses_and_weights(Options()) == [*expected, ("lmf", (0.5, 1.0))]  # Table 6
    assert losses_and_weights(Options(model="resnet50_v1"))[-1] == ("lmf", (0.5, 1.0))
    named = Options(losses=("lmf",), lmf_weights=("1,0.5", "2,1"))
    assert losses_and_weights(named) == [("lmf", (1.0, 0.5)), ("lmf", (2.0, 1.0))]
    with pytest.raises(UserError, match=r"--lmf-weights 1 is not alpha,beta"):
        losses_and_weights(Options(lmf_weights=("1",)))


def test_the_runs_have_the_released_recipe_unless_told_otherwise():
    # Without the equals sign, words that begin with dashes would be flags of their own.
    words = ["--epochs", "60", "--train-flags=--precision bfloat16"]
    options = tyro.cli(Options, args=words)
    assert options.recipe.settings == (
        *("--augment", "none", "--normalization", "unit", "--optimizer", "adam-l2"),
        *("--pretrained", "imagenet", "--epochs", "60", "--precision", "bfloat16"),
    )
    assert tyro.cli(Options, args=["--released-recipe", *words]) == options
    without = tyro.cli(Options, args=["--no-released-recipe", "--pretrained", "none"])
    assert without.recipe.settings == ()


def test_a_dataset_that_is_not_prepared_has_only_printed_sizes(tmp_path):
    rows = split_rows(str(tmp_path))
    assert rows[1]["dataset"] == "HAM-10K"
    assert rows[1]["test"] == "not prepared"
    assert rows[1]["test, printed"] == "1,502"


@pytest.fixture
def run_command_line(tmp_path, monkeypatch):
    """Call the command in a folder of its own."""
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")

    def call(*words):
        runs_dir = str(tmp_path / "runs")
        words = ["paper_tables", "--pretrained", "none", "--runs-dir", runs_dir, *words]
        monkeypatch.setattr(sys, "argv", words)
        paper_tables.main()

    return call


def test_the_command_prints_and_writes_what_is_finished(tmp_path, run_command_line, capsys):
    recipe = Options(pretrained="none", runs_dir=str(tmp_path / "runs")).recipe
    for loss, weights in (("ce", None), ("lmf", (0.5, 1.0))):
        write_run(recipe.run(loss, weights, 1))
    run_command_line("--tables-only", "--seeds", "0", "1")
    printed_text = capsys.readouterr().out
    (result,) = (tmp_path / "results").glob("*.json")
    recorded = json.loads(result.read_text())
    assert set(recorded["macro_f1"]) == {"ce", "lmf"}
    rows = recorded["rows"]
    assert [row["run"] for row in rows] == ["ce, seed 1", "lmf 0.5,1, seed 1"]
    assert rows[0]["command"].endswith("--optimizer adam-l2 --loss ce --seed 1")
    markdown = result.with_suffix(".md").read_text()
    for heading in (DIFFERS, paper_tables.RESULTS, paper_tables.DIFFERENCES, paper_tables.CLASSES):
        assert heading in printed_text
        assert heading in markdown
    for text in (printed_text, markdown):
        assert "- pretrained: none (paper: torchvision's ImageNet)." in text
        assert "- seeds: 1 (paper: one run of each loss)." in text
    assert printed_text.index(DIFFERS) < printed_text.index("| ce, seed 1 |"), "it comes first"
    assert rows[0]["command"] in markdown
    assert "benchmarks.paper_tables --pretrained none" in markdown


def test_with_nothing_finished_one_sentence_says_so(run_command_line):
    with pytest.raises(UserError, match=r"No run is finished .* leave --tables-only out"):
        run_command_line("--tables-only")


def test_runs_that_fail_are_named_after_the_tables(tmp_path, run_command_line, monkeypatch):
    recipe = Options(pretrained="none", runs_dir=str(tmp_path / "runs")).recipe
    write_run(recipe.run("ce", None, 0))
    monkeypatch.setattr(paper_tables, "train_missing", lambda runs: [runs[1]])
    with pytest.raises(TrainingStopped, match=r"1 of 2 runs failed: focal, seed 0\."):
        run_command_line("--losses", "ce", "focal", "--seeds", "0")
    assert list((tmp_path / "results").glob("*.md"))
