"""Degenerate classification tests give valid files and reports without NaN or empty values."""

import json

import numpy as np
import pytest

from lmf_jax.cli.compare import Compare, run_compare
from lmf_jax.errors import UserError
from lmf_jax.evaluation import read_run
from tests.helpers.degenerate import (
    ClassifierTest,
    answers,
    check_report,
    check_test_file,
    classifier_tests,
    nonsense_in,
    nulls_of,
    runs_written_once,
    write_classifier_run,
)

CLASSIFIER_TESTS = classifier_tests()
classifier_runs = runs_written_once(write_classifier_run, CLASSIFIER_TESTS)


@pytest.mark.parametrize("name", CLASSIFIER_TESTS)
def test_a_classifier_ends_with_a_report(name, classifier_runs, drawn):
    run_dir, printed = classifier_runs(name)
    check_test_file(run_dir / "test.json")
    shown = check_report(run_dir, printed, drawn)
    run, test = read_run(run_dir), CLASSIFIER_TESTS[name]
    np.testing.assert_array_equal(run.logits, test.logits)
    assert list(run.test["per_class"]) == list(test.class_names)

    counts = np.bincount(test.labels, minlength=len(test.class_names))
    absent = [name for name, count in zip(test.class_names, counts, strict=True) if not count]
    one_class = np.count_nonzero(counts) == 1
    for text in (shown, " ".join(printed.split())):
        assert (f"No test images of {', '.join(absent)}: n/a" in text) == bool(absent)
        assert ("All test images are of one class: AUROC" in text) == one_class
        assert ("n/a" in text) == bool(absent or one_class) == bool(nulls_of(run.test))


@pytest.mark.parametrize(
    "name", ["constant", "perfect", "all_wrong", "absent_class", "one_group", "one_image"]
)
def test_a_degenerate_classifier_is_compared(name, classifier_runs, tmp_path, capsys):
    run_dir, _ = classifier_runs(name)
    test = CLASSIFIER_TESTS[name]
    other = ClassifierTest(
        test.labels, np.roll(test.logits, 1, axis=1), test.groups, train=test.train
    )
    write_classifier_run(tmp_path / "other", other, loss="ce")
    run_compare(Compare((str(run_dir), str(tmp_path / "other"))))
    printed = capsys.readouterr().out
    assert "1 vs 2" in printed and nonsense_in(printed) == []
    assert ("No test images of class 2: n/a" in printed) == (name == "absent_class")
    assert ("All test images are of one class" in printed) == (name == "one_image")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_logits_are_not_written(value, tmp_path):
    logits = answers([0, 1, 2])
    logits[1, 2] = value
    with pytest.raises(UserError, match="NaN or infinity for 1 of 3 test images"):
        write_classifier_run(tmp_path / "run", ClassifierTest(np.arange(3), logits))
    assert not (tmp_path / "run" / "test.json").exists()


def test_a_loss_near_the_float32_maximum_is_reported(tmp_path, drawn):
    run_dir = tmp_path / "run"
    printed = write_classifier_run(run_dir, CLASSIFIER_TESTS["perfect"])
    epoch = json.loads((run_dir / "metrics.jsonl").read_text())
    largest = float(np.finfo(np.float32).max)
    epochs = [epoch | {"val_loss": largest, "train_loss": largest}, epoch | {"epoch": 2}]
    (run_dir / "metrics.jsonl").write_text("\n".join(map(json.dumps, epochs)))
    check_report(run_dir, printed, drawn)
