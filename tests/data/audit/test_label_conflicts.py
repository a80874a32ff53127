"""One picture under two labels is named by prepare and by the audit, in whichever part."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.audit.label_conflicts import conflict_lines, label_conflicts
from data.labels import Labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty pictures of two classes; one of them lies in both, and one twice in the same."""
    raw = tmp_path / "raw"
    for number in range(20):
        path = raw / ("mole", "nevus")[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    (raw / "nevus" / "copy.png").write_bytes((raw / "mole" / "04.png").read_bytes())
    (raw / "mole" / "again.png").write_bytes((raw / "mole" / "02.png").read_bytes())
    return raw


LINE = "One picture, byte for byte, has several labels: mole/04.png (mole), nevus/copy.png (nevus)."


@pytest.mark.parametrize("command", ["prepare", "audit"])
def test_both_paths_and_both_labels_are_named(
    command: str, folder: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    data_dir = tmp_path / "data"
    arguments = ["data", command, f"folder:{folder}", "--data-dir", str(data_dir)]
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_module("data", run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "several labels" in line] == [LINE]
    if command == "audit":
        (path,) = data_dir.rglob("audit.json")
        assert json.loads(path.read_text())["label_conflicts"] == [
            {"images": ["mole/04.png", "nevus/copy.png"], "labels": ["mole", "nevus"]}
        ]


def test_many_conflicts_are_counted() -> None:
    ids = np.arange(60).astype(str)
    labels = Labels(("a", "b"), ids, np.arange(60, dtype=np.int32) % 2)
    conflicts = label_conflicts(labels, np.arange(60).astype("U64"))
    assert conflicts == []
    conflicts = label_conflicts(labels, (np.arange(60) // 2).astype("U64"))
    *lines, last = conflict_lines(conflicts)
    assert len(lines) == 20
    assert last.startswith("10 more pictures have several labels; audit.json")
