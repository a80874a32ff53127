"""Metrics of folds, their mean and deviation, and the description of the data of the whole."""

import json

import pytest

from lmf_jax.evaluation.folds import append_folds, check_folds, fold_rows, summarize_folds
from lmf_jax.runs.folds import joint_dataset, try_lock

TITLES = {"macro_f1": "macro F1", "accuracy": "accuracy"}
TESTS = [
    {"macro_f1": 0.5, "accuracy": 0.9},
    {"macro_f1": 0.7, "accuracy": 0.8},
    {"macro_f1": 0.9, "accuracy": 1},
]


def test_the_summary_has_each_fold_the_mean_and_the_deviation_of_a_sample(tmp_path):
    folds = summarize_folds(TESTS, [10, 10, 9], list(TITLES))
    assert folds["mean"]["macro_f1"] == pytest.approx(0.7)
    assert folds["standard_deviation"]["macro_f1"] == pytest.approx(0.2)
    assert [fold["size"] for fold in folds["each"]] == [10, 10, 9]
    check_folds(tmp_path, json.loads(json.dumps(folds)), list(TITLES), 29)
    lines = append_folds("table", {"folds": folds}, TITLES, "images").splitlines()
    assert lines[:2] == ["table", ""]
    assert lines[4] == "fold 3: macro F1 0.900, accuracy 1.000 (9 images)"
    assert lines[5].endswith("macro F1 0.700 ± 0.200, accuracy 0.900 ± 0.100")
    assert fold_rows({"folds": folds}, TITLES)["mean"] == pytest.approx([0.7, 0.9])
    assert fold_rows({}, TITLES) is None


def test_the_data_of_the_whole_count_every_image_and_name_the_folds_of_notes():
    def fold(fingerprint, test, train, notes):
        counts = {"train": train, "validation": [1, 0], "test": test}
        known = {"name": "d", "fingerprint": fingerprint, "class_names": ["a", "b"]}
        return {**known, "split_notes": notes, "class_counts": counts}

    folds = [fold("1", [3, 1], [5, 3], ["all"]), fold("2", [3, 2], [4, 1], ["all", "no b"])]
    joint = joint_dataset(folds)
    assert joint["class_counts"] == {"train": [4, 2], "validation": [1, 0], "test": [6, 3]}
    assert joint["split_notes"] == ["all", "Fold 2: no b"]
    other = joint_dataset([folds[0], fold("3", [3, 2], [4, 1], [])])
    assert len({joint["fingerprint"], other["fingerprint"], "1", "2"}) == 4


def test_a_lock_is_held_by_one_and_free_when_it_ends(tmp_path):
    with try_lock(tmp_path, "fold-1") as first, try_lock(tmp_path, "fold-1") as second:
        assert first and not second
        with try_lock(tmp_path, "fold-2") as other:
            assert other
    with try_lock(tmp_path, "fold-1") as again:
        assert again
