"""One builder at a time, and files that are whole or not there."""

import threading
import time
from pathlib import Path

import pytest

from data.storage import build_lock, replacing
from lmf_jax.errors import UserError


def test_a_second_builder_waits_for_the_first(tmp_path: Path) -> None:
    finished = []

    def build_second() -> None:
        with build_lock(tmp_path / "new" / "file"):
            finished.append("second")

    second = threading.Thread(target=build_second)
    with build_lock(tmp_path / "new" / "file"):
        second.start()
        time.sleep(0.2)
        finished.append("first")
    second.join()
    assert finished == ["first", "second"]


def test_different_files_are_built_side_by_side(tmp_path: Path) -> None:
    with build_lock(tmp_path / "one"), build_lock(tmp_path / "other"):
        pass


def test_a_disk_without_locks_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError("No locks available")

    monkeypatch.setattr("data.storage.fcntl.flock", no_locks)
    with build_lock(tmp_path / "file"):
        (tmp_path / "file").write_text("built")


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    leftovers = [tmp_path / f".file.{'0a' * 16}", tmp_path / "incomplete.XY12_file"]
    others = [tmp_path / f".other.{'0a' * 16}", tmp_path / ".file.lock", tmp_path / "file.backup"]
    for path in [leftovers[0], *others]:
        path.write_text("half")
    leftovers[1].mkdir()
    with build_lock(tmp_path / "file"):
        assert not any(path.exists() for path in leftovers)
    assert all(path.exists() for path in others)


def test_without_locks_nothing_of_others_is_removed(tmp_path: Path, monkeypatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError("No locks available")

    monkeypatch.setattr("data.storage.fcntl.flock", no_locks)
    path = tmp_path / f".file.{'0a' * 16}"
    path.write_text("another process writes this")
    with build_lock(tmp_path / "file"):
        assert path.exists()


def test_a_file_elsewhere_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"^/elsewhere/a\.png cannot be read \(Permission denied\)"),
        build_lock(tmp_path / "file"),
    ):
        raise OSError(13, "Permission denied", "/elsewhere/a.png")


def test_a_refusing_disk_is_reported_to_the_person(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"file cannot be written \(No space left\).*--data-dir"),
        build_lock(tmp_path / "file"),
    ):
        raise OSError(28, "No space left")


def test_a_file_is_replaced_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        file.write(b"half of the n")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
