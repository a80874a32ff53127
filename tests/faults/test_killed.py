"""A run that is killed at any moment and resumed equals an uninterrupted one."""

import random
import signal

import pytest

from tests.helpers.killed_training import (
    EPOCHS,
    difference,
    kill_at_a_random_moment,
    run_to_the_end,
    start,
)

pytestmark = pytest.mark.slow

KILLS_WHILE_TRAINING, KILLS_WHILE_TESTING = 16, 4


@pytest.mark.fault(
    "SIGKILL 20 times in one run, 16 while it trains and 4 while it tests",
    "it ended with the same bits as the run that was not killed",
)
def test_a_run_killed_twenty_times_ends_as_one_that_was_not(data_dir, whole, tmp_path):
    rng, run_dir = random.Random(0), tmp_path / "killed"
    for _ in range(KILLS_WHILE_TRAINING):
        kill_at_a_random_moment(start(run_dir, data_dir, *EPOCHS), rng, longest=0.3)
    run_to_the_end(run_dir, data_dir, *EPOCHS)
    for _ in range(KILLS_WHILE_TESTING):
        testing = start(run_dir, data_dir, *EPOCHS)
        testing.process.join(rng.uniform(1, 5))
        testing.send(signal.SIGKILL)
        testing.process.join()
    run_to_the_end(run_dir, data_dir, *EPOCHS)
    assert difference(run_dir, whole) == ""


@pytest.mark.fault(
    "SIGTERM, or Ctrl-C, to a run",
    "it saved, said how to go on, exit code 143 or 130; resumed, the same bits",
)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_says_how_to_go_on(data_dir, whole, tmp_path, number, code):
    run_dir = tmp_path / "stopped"
    training = start(run_dir, data_dir, *EPOCHS)
    training.wait_for_first_step()
    training.send(number)
    assert training.end() == code
    last = training.output.read_text().splitlines()[-1]
    assert last.startswith("train.py: Stopped and saved after step ")
    assert last.endswith(f"continue with: python train.py --resume --run-dir {run_dir}")
    run_to_the_end(run_dir, data_dir, *EPOCHS)
    assert difference(run_dir, whole) == ""
