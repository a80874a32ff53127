"""Degenerate segmentation tests give valid files and reports without NaN or empty values."""

import dataclasses

import numpy as np
import pytest

from lmf_jax.cli.compare import Compare, run_compare
from lmf_jax.evaluation.segmentation import read_run
from tests.helpers.degenerate import check_report, check_test_file, nonsense_in, runs_written_once
from tests.helpers.degenerate_segmentation import (
    segmenter_tests,
    write_segmenter_run,
)

SEGMENTER_TESTS = segmenter_tests()
segmenter_runs = runs_written_once(write_segmenter_run, SEGMENTER_TESTS)


@pytest.mark.parametrize("name", SEGMENTER_TESTS)
def test_a_segmenter_ends_with_a_report(name, segmenter_runs, drawn):
    run_dir, printed = segmenter_runs(name)
    check_test_file(run_dir / "test.json", unbounded=("hd95",))
    shown = check_report(run_dir, printed, drawn)
    run, test = read_run(run_dir), SEGMENTER_TESTS[name]
    assert list(run.test["per_class"]) == list(test.names)
    assert list(run.test["per_case"]) == test.ids.tolist()

    counts = np.bincount(test.labels.ravel(), minlength=len(test.names))[1:]
    absent = [name for name, count in zip(test.names[1:], counts, strict=True) if not count]
    for text in (shown, " ".join(printed.split())):
        assert (f"No test cases of {', '.join(absent)}: " in text) == bool(absent)


@pytest.mark.parametrize(
    "name", ["all_empty", "perfect", "absent_class_found", "one_case", "one_group", "volumes"]
)
def test_a_degenerate_segmenter_is_compared(name, segmenter_runs, tmp_path, capsys):
    run_dir, _ = segmenter_runs(name)
    test = SEGMENTER_TESTS[name]
    other = dataclasses.replace(test, predictions=np.zeros_like(test.predictions))
    write_segmenter_run(tmp_path / "other", other, loss="ce")
    run_compare(Compare((str(run_dir), str(tmp_path / "other"))))
    printed = capsys.readouterr().out
    assert "1 vs 2" in printed and nonsense_in(printed) == []
    assert ("No test cases of core: " in printed) == (name == "absent_class_found")
