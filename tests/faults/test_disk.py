"""Training on a disk that is full, read-only, or returns changed bytes."""

import pytest

from tests.helpers.killed_training import EPOCHS, difference, run_to_the_end, start
from tests.helpers.small_disk import fill, make_read_only, small_disk

pytestmark = pytest.mark.slow


@pytest.mark.fault(
    "the disk is full",
    "one sentence, exit code 1, what was saved is kept; with room again, the same bits",
)
def test_a_full_disk_stops_the_run_and_costs_nothing_that_was_saved(data_dir, whole, tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        training = start(disk / "run", data_dir, *EPOCHS)
        training.wait_for_first_step()
        filler = fill(disk)
        code, printed = training.end(), training.output.read_text()
        assert code == 1, printed
        assert "Traceback" not in printed
        last = printed.splitlines()[-1]
        assert last.startswith("train.py: ")
        assert "No space left on device" in last
        filler.unlink()
        run_to_the_end(disk / "run", data_dir, *EPOCHS)
        assert difference(disk / "run", whole) == ""


@pytest.mark.fault(
    "the disk is read-only when a run is resumed",
    "one sentence, exit code 1; writable again, the same bits",
)
def test_a_read_only_disk_is_named(data_dir, whole, tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        training = start(disk / "run", data_dir, *EPOCHS)
        training.wait_for_first_step()
        training.process.kill()
        training.process.join()
        make_read_only(disk)
        training = start(disk / "run", data_dir, *EPOCHS)
        code, printed = training.end(), training.output.read_text()
        assert code == 1, printed
        assert "Traceback" not in printed
        assert "Read-only file system" in printed.splitlines()[-1]
        make_read_only(disk, read_only=False)
        run_to_the_end(disk / "run", data_dir, *EPOCHS)
        assert difference(disk / "run", whole) == ""
