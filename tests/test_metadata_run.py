"""From a manifest with sex and age to the subgroups of a run, its report and ``--where``."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from lmf_jax.inference import image_model
from lmf_jax.training import classification
from tests.helpers.colored_images import draw_images
from tests.helpers.degenerate import nonsense_in
from tests.helpers.tiny_training import tiny_model

TRAIN = str(Path(__file__).parent.parent / "train.py")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """Return a list of 72 images with sex, age and a comment of their patients."""
    root = tmp_path_factory.mktemp("my images")
    draw_images(root / "images", (24, 24, 24))
    lines = ["path,label,group,split,sex,age,comment"]
    for name in ("red", "green", "blue"):
        for number in range(24):
            part = ("train", "train", "val", "test")[number % 4]
            sex = "fm"[number // 4 % 2] if number != 3 else "unknown"
            patient, age = f"{name}{number}", f"{20 + 3 * number}.0"
            fields = (f"images/{name}/{number}.png", name, patient, part, sex, age, "same")
            lines.append(",".join(fields))
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    return root / "list.csv"


def run(monkeypatch, module: str, *words) -> int:
    """Run a program with these words in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", [module, *map(str, words)])
    try:
        if module == TRAIN:
            runpy.run_path(TRAIN, run_name="__main__")
        else:
            runpy.run_module(module, run_name="__main__")
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.slow
def test_subgroups_go_from_a_manifest_to_the_report(manifest, monkeypatch, tmp_path, capsys):
    for module in (classification, image_model):
        monkeypatch.setattr(module, "create_model", lambda name, **values: tiny_model(**values))
    words = ["--dataset", f"manifest:{manifest}", "--data-dir", tmp_path / "data"]
    words += ["--image-size", "32", "--epochs", "1", "--batch-size", "8", "--pretrained", "none"]
    run_dir = tmp_path / "run"
    assert run(monkeypatch, TRAIN, *words, "--run-dir", run_dir) == 0
    content = json.loads((run_dir / "subgroups.json").read_text())
    sexes = content["columns"]["sex"]
    assert sexes["unknown"] == 3
    assert {s["value"]: s["images"] for s in sexes["subgroups"]} == {"f": 6, "m": 9}
    assert content["drawn"] == "groups"
    assert content["left_out"] == {"comment": 1}
    assert json.loads((run_dir / "config.json").read_text())["config"]["where"] is None
    page = (run_dir / "report.html").read_text()
    section = page[page.index("<h2>Subgroups</h2>") :]
    assert "(unknown for 3 images)" in section and nonsense_in(section) == []

    before = (run_dir / "test.json").read_bytes()
    capsys.readouterr()
    assert run(monkeypatch, "lmf_jax", "evaluate", run_dir, "--subgroups", "sex,comment") == 0
    printed = capsys.readouterr().out
    assert "comment: 1 values in the test part" in printed and "unknown: 3 images" in printed
    assert nonsense_in(printed) == []
    assert json.loads((run_dir / "subgroups.json").read_text()) == content

    assert run(monkeypatch, "lmf_jax", "evaluate", run_dir, "--where", "sex=f") == 0
    printed = capsys.readouterr().out
    assert "macro mean" in printed and "report" not in printed
    mean = next(line for line in printed.splitlines() if line.startswith("macro mean"))
    assert mean.split()[-2] == "6"  # test images
    assert (run_dir / "test.json").read_bytes() == before

    for flags, message in {
        ("--subgroups", "site"): "the column 'site'; expected one or several of sex, age, comment",
        ("--subgroups", "sex", "--where", "sex=f"): "--subgroups prints those of the whole test",
        ("--where", "sex=x"): "gives sex the value 'x'",
    }.items():
        assert run(monkeypatch, "lmf_jax", "evaluate", run_dir, *flags) != 0
        assert message in capsys.readouterr().err

    words += ["--where", "sex=m", "--run-dir", tmp_path / "male"]
    assert run(monkeypatch, TRAIN, *words) == 0
    record = json.loads((tmp_path / "male" / "config.json").read_text())
    assert record["config"]["where"] == "sex=m"
    assert record["dataset"]["class_counts"]["test"] == [3, 3, 3]
    assert run(monkeypatch, TRAIN, "--resume", "--run-dir", tmp_path / "male", "--epochs", "2") == 0
    earlier = json.loads((run_dir / "config.json").read_text())
    del earlier["config"]["where"]  # a run of an earlier version
    (run_dir / "config.json").write_text(json.dumps(earlier))
    assert run(monkeypatch, TRAIN, "--resume", "--run-dir", run_dir, "--epochs", "2") == 0


@pytest.mark.slow
def test_a_test_on_other_data_has_subgroups_of_its_own(manifest, monkeypatch, tmp_path, capsys):
    for module in (classification, image_model):
        monkeypatch.setattr(module, "create_model", lambda name, **values: tiny_model(**values))
    run_dir, data_dir = tmp_path / "run", tmp_path / "data"
    words = ["--dataset", f"manifest:{manifest}", "--data-dir", data_dir, "--run-dir", run_dir]
    words += ["--image-size", "32", "--epochs", "1", "--batch-size", "8", "--pretrained", "none"]
    assert run(monkeypatch, TRAIN, *words) == 0
    own = (run_dir / "subgroups.json").read_bytes()

    draw_images(tmp_path / "other", (8, 8, 8), seed=7)
    lines = ["path,label,group,site"]
    for name in ("red", "green", "blue"):
        for number in range(8):
            site = ("hand", "foot")[number % 2] if number else "unknown"
            lines.append(f"other/{name}/{number}.png,{name},other {name}{number // 4},{site}")
    (tmp_path / "other.csv").write_text("\n".join(lines) + "\n")
    words = ["lmf_jax", "evaluate", run_dir, "--dataset", f"manifest:{tmp_path / 'other.csv'}"]
    capsys.readouterr()
    assert run(monkeypatch, *words, "--subgroups", "sex") != 0
    assert "the column 'sex'; expected one or several of site" in capsys.readouterr().err
    assert not (run_dir / "external").exists()

    assert run(monkeypatch, *words, "--subgroups", "site") == 0
    printed = capsys.readouterr().out
    table = printed[printed.index("\nsite ") :]
    assert "unknown: 3 images" in table and nonsense_in(printed) == []
    (folder,) = (run_dir / "external").iterdir()
    content = json.loads((folder / "subgroups.json").read_text())
    site = content["columns"]["site"]
    assert {s["value"]: s["images"] for s in site["subgroups"]} == {"foot": 12, "hand": 9}
    with np.load(folder / "predictions.npz") as file:  # calibrated logits
        is_correct = file["logits"].argmax(1) == file["labels"]
        in_foot = np.array([int(Path(name).stem) % 2 == 1 for name in file["ids"].tolist()])
    assert site["subgroups"][0]["accuracy"] == pytest.approx(is_correct[in_foot].mean())
    assert (run_dir / "subgroups.json").read_bytes() == own
    page = (run_dir / "report.html").read_text()
    external = page[page.index("<strong>Subgroups</strong>", page.index("<h2>Test on")) :]
    assert "(unknown for 3 images)" in external
    assert page.count("<h2>Subgroups</h2>") == 1 and nonsense_in(external) == []

    (tmp_path / "other.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    assert run(monkeypatch, *words) == 0
    assert not (folder / "subgroups.json").exists()
    assert "<strong>Subgroups</strong>" not in (run_dir / "report.html").read_text()
