"""The uninterrupted runs that runs with faults are compared with."""

import pytest

from tests.helpers.killed_training import EPOCHS, run_to_the_end


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def whole(data_dir, tmp_path_factory):
    """Return the folder of an uninterrupted run of one process."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    run_to_the_end(run_dir, data_dir, *EPOCHS)
    return run_dir
