"""``python -m lmf_jax card``: the files that it writes, and those that it leaves alone."""

import runpy
import sys

import numpy as np
import pytest

from tests.helpers.degenerate import ClassifierTest, answers, write_classifier_run

NAMES = ("model_card.md", "claim_2024.md", "tripod_ai.md")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card") / "run"
    labels = np.repeat([0, 1, 2], [10, 6, 4])
    write_classifier_run(folder, ClassifierTest(labels, answers(labels)))
    return folder


def card(monkeypatch, *words):
    """Run the command in this process; return the exit code."""
    monkeypatch.setattr(sys, "argv", ["lmf_jax", "card", *map(str, words)])
    try:
        runpy.run_module("lmf_jax", run_name="__main__")
    except SystemExit as stop:
        return stop.code
    return 0


def test_the_documents_are_written_into_the_run_and_their_paths_printed(run, monkeypatch, capsys):
    assert card(monkeypatch, run) == 0
    paths = [run / "card" / name for name in NAMES]
    assert sorted((run / "card").iterdir()) == sorted(paths)
    assert capsys.readouterr().out.split() == list(map(str, paths))


def test_a_document_is_replaced_only_if_asked(run, monkeypatch, capsys, tmp_path):
    (tmp_path / "claim_2024.md").write_text("my text")
    assert card(monkeypatch, run, "--output", tmp_path) == 2
    assert "claim_2024.md exists already; give another --output" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["claim_2024.md"]
    assert (tmp_path / "claim_2024.md").read_text() == "my text"
    assert card(monkeypatch, run, "--output", tmp_path, "--overwrite") == 0
    assert (tmp_path / "claim_2024.md").read_text().startswith("# CLAIM 2024")


def test_a_folder_without_a_tested_run_is_refused_in_one_sentence(monkeypatch, capsys, tmp_path):
    assert card(monkeypatch, tmp_path) == 2
    assert f"There is no run in {tmp_path}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
