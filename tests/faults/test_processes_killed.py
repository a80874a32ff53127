"""One of two processes that train together dies, is told to stop, or hangs."""

import signal

import pytest

from tests.helpers.killed_training import difference, start_together

pytestmark = pytest.mark.slow

EPOCHS = ("--epochs", "2")


@pytest.fixture(scope="module")
def whole(data_dir, tmp_path_factory):
    """Return the folder of an uninterrupted run of two processes."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    both_to_the_end(run_dir, data_dir)
    return run_dir


def both_to_the_end(run_dir, data_dir):
    trainings = start_together(run_dir, data_dir, 2, *EPOCHS)
    codes = [training.end() for training in trainings]
    assert codes == [0, 0], "\n".join(training.output.read_text() for training in trainings)


def interrupt(run_dir, data_dir, process, number, *flags):
    """Start two processes and send one a signal in the first epoch."""
    trainings = start_together(run_dir, data_dir, 2, *EPOCHS, *flags)
    trainings[process].wait_for_first_step()
    trainings[process].send(number)
    return trainings


@pytest.mark.fault(
    "SIGKILL to one of two processes, the first or the second",
    "the other stopped within a minute with one sentence; resumed, the same bits",
)
@pytest.mark.parametrize("process", [0, 1])
def test_the_other_stops_within_a_minute_and_the_run_goes_on(data_dir, whole, tmp_path, process):
    trainings = interrupt(tmp_path / "run", data_dir, process, signal.SIGKILL)
    other = trainings[1 - process]
    assert other.end(60) == 1
    said = other.output.read_text().splitlines()[-1]
    assert said.startswith("train.py: Another process of this run stopped or cannot be reached (")
    assert said.endswith("start all processes again with --resume.")
    trainings[process].end()
    both_to_the_end(tmp_path / "run", data_dir)
    assert difference(tmp_path / "run", whole) == ""


@pytest.mark.fault(
    "SIGTERM to one of two processes",
    "both saved and stopped after the same step, exit code 143; resumed, the same bits",
)
def test_both_stop_at_one_step_if_one_is_told_to(data_dir, whole, tmp_path):
    trainings = interrupt(tmp_path / "run", data_dir, 1, signal.SIGTERM)
    assert [training.end(60) for training in trainings] == [143, 143]
    said = [training.output.read_text().splitlines()[-1] for training in trainings]
    assert said[0] == said[1]
    assert said[0].startswith("train.py: Stopped and saved after step ")
    both_to_the_end(tmp_path / "run", data_dir)
    assert difference(tmp_path / "run", whole) == ""


@pytest.mark.fault(
    "one of two processes hangs (SIGSTOP)",
    "the watchdog said where the other waits; JAX ended it within a minute",
)
def test_one_that_hangs_is_named_and_ends_the_other_within_a_minute(data_dir, tmp_path):
    trainings = interrupt(
        tmp_path / "run", data_dir, 1, signal.SIGSTOP, "--watchdog-minutes", "0.1"
    )
    try:
        assert trainings[0].end(60) == 134  # JAX aborts it
        said = trainings[0].output.read_text()
        assert "Process 0 of 2 has waited 0.1 minutes for " in said
        assert "another task died" in said
    finally:
        trainings[1].send(signal.SIGKILL)
        trainings[1].end()
