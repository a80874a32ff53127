"""``train.py`` and the commands on its run, with a class without test images."""

import csv
import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from lmf_jax.inference import image_model
from lmf_jax.training import classification
from tests.helpers.colored_images import draw_images
from tests.helpers.degenerate import check_test_file, nonsense_in
from tests.helpers.tiny_training import tiny_model

TRAIN = str(Path(__file__).parent.parent / "train.py")
NOTE = "No test images of red: n/a, counted as 0 in macro precision"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Return a list of images with one blue, three green and no red test images."""
    root = tmp_path_factory.mktemp("my images")
    draw_images(root / "images", (16, 16, 16))
    rows = [
        (f"images/{name}/{number}.png", name, "val" if number < 4 else "train", f"{name} {number}")
        for name in ("red", "green", "blue")
        for number in range(16)
    ]
    in_test = {"images/green/5.png", "images/green/6.png", "images/green/7.png"}
    in_test.add("images/blue/5.png")
    with (root / "list.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split", "group"])
        for path, label, part, group in rows:
            writer.writerow([path, label, "test" if path in in_test else part, group])
    return root / "list.csv"


def run(monkeypatch, module, *words):
    """Run a program with these words in this process."""
    monkeypatch.setattr(sys, "argv", [module, *map(str, words)])
    try:
        if module == TRAIN:
            runpy.run_path(TRAIN, run_name="__main__")
        else:
            runpy.run_module(module, run_name="__main__")
    except SystemExit as stop:
        assert not stop.code


def test_a_class_without_test_images_is_named_all_the_way(manifest, monkeypatch, tmp_path, capsys):
    for module in (classification, image_model):
        monkeypatch.setattr(module, "create_model", lambda name, **values: tiny_model(**values))
    words = ["--dataset", f"manifest:{manifest}", "--data-dir", tmp_path / "data"]
    words += ["--image-size", "32", "--epochs", "1", "--batch-size", "8", "--pretrained", "none"]
    run(monkeypatch, TRAIN, *words, "--run-dir", tmp_path / "lmf")
    printed = capsys.readouterr().out
    assert NOTE in " ".join(printed.split()) and nonsense_in(printed) == []
    check_test_file(tmp_path / "lmf" / "test.json")
    before = json.loads((tmp_path / "lmf" / "test.json").read_text())
    run(monkeypatch, "lmf_jax", "evaluate", tmp_path / "lmf", "--data-dir", tmp_path / "data")
    assert NOTE in " ".join(capsys.readouterr().out.split())
    assert json.loads((tmp_path / "lmf" / "test.json").read_text()) == before
    shutil.copytree(tmp_path / "lmf", tmp_path / "ce")
    record = json.loads((tmp_path / "ce" / "config.json").read_text())
    record["config"]["loss"] = "ce"
    (tmp_path / "ce" / "config.json").write_text(json.dumps(record))
    run(monkeypatch, "lmf_jax", "compare", tmp_path / "lmf", tmp_path / "ce")
    printed = capsys.readouterr().out
    assert NOTE in " ".join(printed.split()) and nonsense_in(printed) == []
    folder = manifest.parent / "images" / "red"
    run(monkeypatch, "lmf_jax", "predict", tmp_path / "lmf", folder, "--output", tmp_path / "p.csv")
    text = (tmp_path / "p.csv").read_text()
    assert len(text.splitlines()) == 17 and nonsense_in(text) == []
