"""The record of a benchmark is written row by row."""

import json

import pytest

from benchmarks import record as module
from benchmarks.record import record


def test_rows_before_a_failure_are_kept_and_so_is_the_last_result(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    complete = record("made_up", [{"size": 32, "images/s": 40.0}]).read_text()

    def rows():
        yield {"size": 64, "images/s": 10.0}
        yield {"size": 128, "images/s": 2.5}
        raise MemoryError

    with pytest.raises(MemoryError):
        record("made_up", rows(), precision="float32")
    result, partial = sorted(tmp_path.iterdir())
    assert result.read_text() == complete
    kept = json.loads(partial.read_text())
    assert [row["size"] for row in kept["rows"]] == [64, 128]
    assert kept["precision"] == "float32"


def test_a_table_of_all_rows_is_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    path = record("made_up", iter([{"size": 64, "images/s": 10.0}, {"size": 128, "images/s": 2.5}]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "| size | images/s |", "| --- | --- |", "| 64 | 10.000 |", "| 128 | 2.500 |"
    ]  # fmt: skip
    assert lines[4] == f"written to {path}"
