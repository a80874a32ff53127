"""Folds that are killed, stopped or shared give the predictions of one process that trained all."""

import random
import signal

import numpy as np
import pytest

from tests.helpers.killed_training import kill_at_a_random_moment, run_to_the_end, start

pytestmark = pytest.mark.slow

FOLDS = ("--folds", "3", "--epochs", "2", "--resume")
KILLS = 12


@pytest.fixture(scope="module")
def whole_folds(data_dir, tmp_path_factory):
    """Return the folder of folds that one process trained without interruption."""
    run_dir = tmp_path_factory.mktemp("folds") / "whole"
    run_to_the_end(run_dir, data_dir, *FOLDS)
    return run_dir


def predictions_of(run_dir):
    with np.load(run_dir / "predictions.npz") as arrays:
        return {name: arrays[name].tobytes() for name in arrays.files}


def assert_same(run_dir, whole):
    assert predictions_of(run_dir) == predictions_of(whole)
    assert (run_dir / "test.json").read_bytes() == (whole / "test.json").read_bytes()


@pytest.mark.fault(
    f"SIGKILL {KILLS} times in a cross-validation of three folds",
    "it ended with the same out-of-fold predictions, bit for bit",
)
def test_killed_folds_end_as_those_that_were_not(data_dir, whole_folds, tmp_path):
    rng, run_dir = random.Random(1), tmp_path / "killed"
    for _ in range(KILLS):
        kill_at_a_random_moment(start(run_dir, data_dir, *FOLDS), rng, longest=1.0)
    run_to_the_end(run_dir, data_dir, *FOLDS)
    assert_same(run_dir, whole_folds)


@pytest.mark.fault(
    "SIGTERM to a cross-validation",
    "the fold was saved, exit code 143, and the message says how to continue all folds",
)
def test_a_signal_saves_the_fold_and_says_how_to_continue_all(data_dir, whole_folds, tmp_path):
    run_dir = tmp_path / "stopped"
    training = start(run_dir, data_dir, *FOLDS)
    training.wait_for_first_step()
    training.send(signal.SIGTERM)
    assert training.end() == 143
    last = training.output.read_text().splitlines()[-1]
    assert last.startswith("train.py: Fold 1: Stopped and saved after step ")
    assert last.endswith(f"continue with: python train.py --resume --run-dir {run_dir}")
    run_to_the_end(run_dir, data_dir, "--resume")
    assert_same(run_dir, whole_folds)


@pytest.mark.fault(
    "one of two processes that share the folds of a cross-validation is killed",
    "the other takes over its fold, with the same out-of-fold predictions",
)
def test_two_processes_share_the_folds_and_one_takes_over_from_the_other(
    data_dir, whole_folds, tmp_path
):
    run_dir = tmp_path / "shared"
    first, second = (start(run_dir, data_dir, *FOLDS) for _ in range(2))
    first.wait_for_first_step()
    second.wait_for_first_step()
    first.send(signal.SIGKILL)
    first.process.join()
    assert second.end() == 0, second.output.read_text()
    assert_same(run_dir, whole_folds)
    # Both trained one at the same time, and no fold was finished twice.
    for number in (1, 2, 3):
        rows = (run_dir / f"fold-{number}" / "metrics.jsonl").read_text().splitlines()
        assert len(rows) == 2
    trained = [
        [line for line in process.output.read_text().splitlines() if line.startswith("fold ")]
        for process in (first, second)
    ]
    assert {line for line in trained[0] if " of " in line} != {
        line for line in trained[1] if " of " in line
    }
